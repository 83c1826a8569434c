"""The documentation site is built without a warning, is whole, and needs nobody but itself."""

import html
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from built_site import ROOT

ELSEWHERE = ("http:", "https:", "mailto:", "data:", "javascript:")


@cache
def read(page):
    return page.read_text()


def pages(site):
    return sorted(site.glob("**/index.html"))


def test_every_page_and_every_notebook_is_on_the_site(site):
    written = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    written += [Path("learn", path.name) for path in (ROOT / "notebooks").glob("*.ipynb")]
    for page in written:
        folder = page.parent if page.stem == "index" else page.with_suffix("")
        assert (site / folder / "index.html").is_file(), page


@cache
def names(page):
    """What a link may lead to within a page."""
    return set(map(html.unescape, re.findall(r'\b(?:id|name)="([^"]*)"', read(page))))


def leads_nowhere(site, folder, link):
    address = urlsplit(html.unescape(link))
    if link.startswith(ELSEWHERE) or address.netloc:
        return False
    path = unquote(address.path)
    target = (site / path.lstrip("/") if path.startswith("/") else folder / path).resolve()
    target = target / "index.html" if target.is_dir() else target
    if not target.is_file():
        return True
    name = unquote(address.fragment)
    within = name and target.suffix == ".html" and not name.startswith("__")
    return within and name not in names(target)


def test_every_link_leads_somewhere(site):
    missing = []
    for page in pages(site):
        links = set(re.findall(r'(?:href|src)="([^"]*)"', read(page)))
        found = sorted(link for link in links if leads_nowhere(site, page.parent, link))
        missing += [(str(page.relative_to(site)), link) for link in found]
    assert missing == []


def test_links_to_elsewhere_are_whole_and_secure(site):
    for page in pages(site):
        for link in re.findall(r'href="(https?:[^"]*)"', read(page)):
            assert re.fullmatch(r"https://[\w.-]+\.[a-z]{2,}(/\S*)?", html.unescape(link)), (page, link)


def test_a_formula_keeps_the_sign_behind_it(site):
    whole = r'(?<!<span class="whole">)(?<!<span class="whole">\()'
    parted = whole + r'<span class="arithmatex">[^<]*</span>[.,;:!?)]'
    for page in pages(site):
        assert not re.findall(parted, read(page)), page


def test_a_page_loads_nothing_from_elsewhere(site):
    loads = (
        r'<(?:script|img|iframe|source)[^>]*\ssrc="(?:https?:)?//',
        r'<link[^>]*stylesheet[^>]*href="(?:https?:)?//',
    )
    for page in pages(site):
        assert not any(re.search(load, read(page)) for load in loads), page
    for style in site.glob("assets/**/*.css"):
        assert not re.search(r"(?:url\(|@import\s*)[\s\"']*(?:https?:)?//", read(style)), style


def test_pictures_are_described(site):
    for page in pages(site):
        for image in re.findall(r"<img [^>]*>", read(page)):
            assert re.search(r'alt="[^"]{10,}"', image), (page.parent.name, image)


def test_examples_are_shown_as_code(site):
    shown = []
    for page in pages(site):
        for section in read(page).split('<span class="doc-section-title">Examples:</span>')[1:]:
            code = re.search(
                r'<div class="(?:doctest )?highlight"><pre>(.*?)</pre>',
                section.partition("<details")[0],
                re.S,
            )
            assert code is not None, page
            shown.append(html.unescape(re.sub(r"<[^>]*>", "", code[1])))
    assert len(shown) >= 4
    assert all(example.startswith(">>> import mltk") for example in shown)
