"""The site in a browser: nothing wider than a telephone, nothing that keeps anybody out, and it is found."""

from pathlib import Path

import pytest
from built_site import ROOT
from chromium import opened

NOTEBOOKS = [Path("learn", path.stem) for path in (ROOT / "notebooks").glob("*.ipynb")]
WRITTEN = [
    path.relative_to(ROOT / "docs").parent / ("" if path.stem == "index" else path.stem)
    for path in (ROOT / "docs").rglob("*.md")
]
PAGES = sorted(f"{path.as_posix()}/".removeprefix("./") for path in [*WRITTEN, *NOTEBOOKS])
SECTIONS = sorted({Path(page).parent.as_posix() for page in PAGES})
LOOKED_AT = sorted({PAGES[0], "live/draw-a-character/", "guides/toolkit/", *PAGES[3::16]})
TELEPHONE = {"viewport": {"width": 390, "height": 844}}
WIDER = """[...document.querySelectorAll("article *")].filter((each) => {
  const box = each.getBoundingClientRect();
  return box.width && box.right > innerWidth + 1 && !each.closest(
    "pre, .arithmatex, mjx-container, .md-typeset__scrollwrap, .md-typeset__table, [hidden], .highlight");
}).slice(0, 5).map((each) => each.outerHTML.slice(0, 120))"""

NEEDLESS = """[...document.querySelectorAll("span.arithmatex.wide")].filter(
  (each) => each.clientWidth && each.scrollWidth <= each.clientWidth
).map((each) => each.parentElement.innerText)"""


@pytest.fixture(scope="module")
def axe():
    package = pytest.importorskip("axe_playwright_python", reason="axe looks at the pages: extra dev")
    return (Path(package.__file__).parent / "axe.min.js").read_text()


def complaints(page, **how):
    """What axe finds serious or critical: the rule, and where."""
    found = page.evaluate("(how) => axe.run(document, how)", {"resultTypes": ["violations"], **how})
    return [
        (rule["id"], rule["impact"], [node["html"][:150] for node in rule["nodes"][:3]])
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("section", SECTIONS)
def test_every_page_fits_a_telephone(browser, address, section):
    with opened(browser, address, search=False, **TELEPHONE) as page:
        for path in [page for page in PAGES if Path(page).parent.as_posix() == section]:
            page.goto(address + path, wait_until="load")
            page.evaluate("MathJax.startup.promise")
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, (path, page.evaluate(WIDER))
            assert page.evaluate(NEEDLESS) == [], path


@pytest.mark.parametrize("path", LOOKED_AT)
def test_nobody_is_kept_out(browser, address, axe, path):
    with opened(browser, address, path, search=False, **TELEPHONE) as page:
        page.wait_for_load_state("networkidle")
        page.evaluate("document.fonts.ready")
        page.evaluate(axe)
        assert complaints(page) == []
        page.get_by_title("Switch to dark").click()
        page.locator("body[data-md-color-scheme=slate]").wait_for()
        page.evaluate("Promise.all(document.getAnimations().map((each) => each.finished))")
        assert complaints(page, runOnly=["color-contrast"]) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("GPU", ("install", "how-to/gpu")),
        ("install", ("install",)),
        ("own dataset", ("how-to/own-",)),
        ("batch norm", ("reference/operations/batch-norm", "learn/10-", "live/batch-norm-leak")),
        ("MAML", ("reference/algorithms/maml", "learn/02-")),
    ],
)
def test_the_search_finds_what_people_look_for(browser, address, words, expected):
    with opened(browser, address) as page:
        page.locator(".md-search__input").fill(words)
        results = page.locator(".md-search-result__item > a")
        results.first.wait_for()
        page.wait_for_timeout(300)
        found = [results.nth(n).get_attribute("href") for n in range(min(3, results.count()))]
        assert any(place in each for each in found for place in expected), found
