"""A headless Chromium for the tests of pages; where it or its driver is absent, they are skipped."""

import shutil
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]


@pytest.fixture(scope="module")
def browser():
    """Chromium, started once for the tests of a file."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives it: extra test")
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=chromium, args=QUIET)
        except playwright.Error as error:
            pytest.skip(f"{chromium} does not start here: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@contextmanager
def opened(browser, address, path="", search=True, **how):
    """A page that is noted if it complains, asks anybody, or runs what it was not meant to.

    Without ``search`` the page does not make the index of the whole site, which takes longer than the page.
    """
    context = browser.new_context(**how)
    if not search:
        context.route("**/workers/search.*.js", lambda route: route.fulfill(content_type="text/javascript"))
    page = context.new_page()
    page.wrong = []
    page.on("console", lambda said: page.wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("dialog", lambda dialog: page.wrong.append(dialog.message))
    page.on(
        "request", lambda request: None if allowed(request.url, address) else page.wrong.append(request.url)
    )
    page.goto(address + path)
    yield page
    assert page.wrong == []
    context.close()


def allowed(url, address):
    return url.startswith(("data:", address))
