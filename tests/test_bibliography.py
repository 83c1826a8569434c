"""Every work that the code, the documentation or a tutorial cites has its entry in the bibliography."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIBLIOGRAPHY = ROOT / "docs/about/bibliography.md"

NAME = r"(?:(?:de la|van der|van|de|von) )?(?![A-Z]{2})[A-Z][^\W\d_]+(?:[-’'][A-Z][^\W\d_]+)*"
AUTHORS = rf"(?<![\w.])(?P<first>{NAME})(?P<others>,? et al\.?|(?:, {NAME})*(?:,? (?:&|and) {NAME})?)"
YEAR = r"(?:1[89]\d\d|20[0-3]\d)(?!\d|[.,]\d)"
FORMS = (
    # Finn, Abbeel & Levine (2017), Li et al. 2017, Lake et al. 2015 and 2019, Li & Chen, *Meta-SGD*, 2017
    re.compile(rf"{AUTHORS}(?:,? \(?|, \*[^*]{{1,120}}\*, )(?P<years>{YEAR}(?:(?:, | and ){YEAR})*)"),
    # Huber's loss (1964), Iman & Davenport's (1980)
    re.compile(rf"{AUTHORS}['’]s?(?: [\w-]+){{0,2}} \((?P<years>{YEAR})\)"),
)
INITIALS = r"(?:[A-Z]\.[- ]?)+"
APART = {(("Spearman", "Brown"), "1910")}
"""Two papers of one year that are named together."""

ENTRY = re.compile(
    r"- \*\*(?P<authors>[^(*]+) \((?P<year>\d{4})\)\.\*\*\{ #(?P<anchor>[\w-]+) \} "
    r"\*(?P<title>[^*]+[.?])\* (?P<venue>.+?)\. (?P<where>(?:\[|ISBN |Publisher: ).+)"
)
DOI = re.compile(r"\[doi:[^]]+\]\(https://doi\.org/10\.\d{4,5}/(?:[^\s()<>]|\([^\s()]*\))+\)\.")
ARXIV = re.compile(r"\[arXiv:(\d{4}\.\d{4,5})\]\(https://arxiv\.org/abs/\1\)\.")
ELSEWHERE = re.compile(r"\[[^]]+\]\(https?://[\w.-]+/[^\s()]+\)\.")
ISBN = re.compile(r"ISBN ([\d-]+[\dX])\.")
PUBLISHER = re.compile(r"Publisher: [A-Z][\w& -]+\.")

Work = tuple[tuple[str, ...], str]


def citations(text: str) -> set[Work]:
    """Authors and year of each work that a text cites; "et al." stands for all but the first."""
    # Sources with forenames, "- Jake Snell, Kevin Swersky, Richard Zemel (2017)"
    text = re.sub(
        rf"(?m)^- ((?:(?:{NAME} )+{NAME}(?:,? and |, | & )?)+)(?= \(\d)",
        lambda found: "- " + re.sub(rf"(?:{NAME} )+({NAME})", r"\1", found[1]),
        text,
    )
    text = re.sub(r"\s+", " ", text)
    text = re.sub(rf", {INITIALS}(?=,|&|and\b|\(|et al)", " ", text)  # Finn, C., Abbeel, P. & Levine, S.
    text = re.sub(rf"(?<!\w){INITIALS}(?={NAME})", "", text)  # C. Finn, P. Abbeel & S. Levine
    text = re.sub(r" +(?=[ ,])", "", text)
    found = set()
    for match in (match for form in FORMS for match in form.finditer(text)):
        rest = re.split(r",? (?:&|and) |, ", match["others"])[1:]
        names = ("et al.",) if "et al" in match["others"] else tuple(rest)
        found |= {((match["first"], *names), year) for year in re.findall(r"\d{4}", match["years"])}
    return found


def texts() -> Iterator[tuple[Path, str]]:
    """All that cites: sources with docstrings and comments, pages, and the Markdown of notebooks."""
    for folder in ("mltk", "backends"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path, re.sub(r"\n\s*#", " ", path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "docs").rglob("*.md")):
        if path != BIBLIOGRAPHY:
            yield path, path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                yield path, "".join(cell["source"])


def cites(citation: Work, work: Work) -> bool:
    """Whether a citation is of a work: it names all authors, or the first of three or more, by last words."""
    (named, cited_in), (authors, year) = citation, work
    authors = tuple(name.split()[-1] for name in authors)
    if citation in APART:
        return cited_in == year and len(authors) == 1 and authors[0] in named
    if named[1:] == ("et al.",):
        named, authors = named[:1], authors[: 1 if len(authors) > 2 else None]
    return (tuple(name.split()[-1] for name in named), cited_in) == (authors, year)


def lines() -> list[str]:
    return [line for line in BIBLIOGRAPHY.read_text(encoding="utf-8").splitlines() if line.startswith("- ")]


def entries() -> list[re.Match[str]]:
    return [match for line in lines() if (match := ENTRY.fullmatch(line))]


def work_of(entry: re.Match[str]) -> Work:
    return tuple(re.split(r", | & ", entry["authors"])), entry["year"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(Finn, Abbeel &\n  Levine 2017, equation 1)", {(("Finn", "Abbeel", "Levine"), "2017")}),
        ("As Li et al. (2017) and MacKay (1992)", {(("Li", "et al."), "2017"), (("MacKay",), "1992")}),
        ("de la Peña 1999; El-Yaniv 2019", {(("de la Peña",), "1999"), (("El-Yaniv",), "2019")}),
        ("Huber's loss (1964); Iman & Davenport's (1980)",
         {(("Huber",), "1964"), (("Iman", "Davenport"), "1980")}),
        ("Lake & Ba 2015 and 2019", {(("Lake", "Ba"), "2015"), (("Lake", "Ba"), "2019")}),
        ("- Finn, C., Xu, K. & Levine, S. (2018).", {(("Finn", "Xu", "Levine"), "2018")}),
        ("- C. Finn, P. H. S. Torr and S. Levine (2017).", {(("Finn", "Torr", "Levine"), "2017")}),
        ("- Boris Oreshkin, Pau Rodríguez López (2018).", {(("Oreshkin", "López"), "2018")}),
        ("- Jake Snell, Kevin Swersky, Richard Zemel (2017).", {(("Snell", "Swersky", "Zemel"), "2017")}),
        ("Li, Zhou & Chen, *Meta-SGD*, 2017", {(("Li", "Zhou", "Chen"), "2017")}),
        ("range(2000), CIFAR (2000 images), seed=1992", set()),
    ],
)  # fmt: skip
def test_citations_are_found(text, found):
    assert citations(text) == found


def test_every_citation_has_an_entry():
    works = [work_of(entry) for entry in entries()]
    missing = {
        f"{', '.join(named)} {year} ({path.relative_to(ROOT)})"
        for path, text in texts()
        for named, year in citations(text)
        if not any(cites((named, year), work) for work in works)
    }
    assert not missing


def test_every_line_is_an_entry_that_says_where_the_work_is():
    assert [line for line in lines() if not ENTRY.fullmatch(line)] == []
    forms = (DOI, ARXIV, ELSEWHERE, ISBN, PUBLISHER)
    assert [
        entry[0]
        for entry in entries()
        if not any(form.match(entry["where"]) for form in forms)
        or ("doi.org" in entry["where"] and not DOI.match(entry["where"]))
        or ("arxiv.org" in entry["where"] and not ARXIV.match(entry["where"]))
    ] == []


def test_isbns_have_their_check_digit():
    for entry in entries():
        if found := ISBN.match(entry["where"]):
            digits = [10 if digit == "X" else int(digit) for digit in found[1].replace("-", "")]
            if len(digits) == 13:
                assert sum(digits[::2] + [3 * digit for digit in digits[1::2]]) % 10 == 0, entry[0]
            else:
                assert len(digits) == 10, entry[0]
                assert sum(place * digit for place, digit in enumerate(reversed(digits), 1)) % 11 == 0, entry[
                    0
                ]


def test_anchors_and_works_are_unique_and_told_by_author_and_year():
    assert [anchor for anchor, n in Counter(entry["anchor"] for entry in entries()).items() if n > 1] == []
    assert [work for work, n in Counter(work_of(entry) for entry in entries()).items() if n > 1] == []
    for entry in entries():
        assert entry["anchor"].endswith("-" + entry["year"]), entry[0]


def test_groups_are_alphabetical():
    text = BIBLIOGRAPHY.read_text(encoding="utf-8")
    for group in text.split("\n## ")[1:]:
        anchors = [match["anchor"] for line in group.splitlines() if (match := ENTRY.fullmatch(line))]
        firsts = [anchor.split("-")[0] for anchor in anchors]
        assert firsts == sorted(firsts)
