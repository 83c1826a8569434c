"""The page in a browser: by keyboard, on a telephone, in the dark, on paper, and while a training goes on.

Where Chromium or its driver is absent, or does not start, these tests are skipped: ``apt-get install
chromium``.
"""

import shutil

import pytest
from chromium import opened
from runs_to_report import HOSTILE, serving, train

import mltk
from mltk.training.run_folder import RunFolder

LOOKED_AT = (
    "p, a, dt, dd, th, td, caption, figcaption, summary, h2, h3, button, .badge, .taken span, .heat-10"
)

PLACE = "[...document.body.querySelectorAll('*')].indexOf(document.activeElement)"

CONTRAST = """(looked_at) => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = (colour, under) => {
    for (canvas.fillStyle of [under, colour]) canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb
    .map((x) => x / 255)
    .map((x) => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)
    .reduce((sum, x, place) => sum + [0.2126, 0.7152, 0.0722][place] * x, 0.05);
  return [...document.querySelectorAll(looked_at)].map((element) => {
    const above = [];
    for (let at = element; at; at = at.parentElement) above.unshift(getComputedStyle(at).backgroundColor);
    const ground = above.reduce((under, colour) => `rgb(${rgb(colour, under)})`, "white");
    const shades = [light(rgb(getComputedStyle(element).color, ground)), light(rgb(ground, "white"))];
    return [Math.max(...shades) / Math.min(...shades), element.outerHTML.slice(0, 100)];
  }).sort((a, b) => a[0] - b[0]);
}"""
"""The contrast of text with what is behind it, of WCAG 2.2, in order."""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for name in ("images", "maml", "ridge"):
        train(folder / "runs" / name, name=name)
    shutil.copytree(folder / "runs" / "ridge", folder / "runs" / HOSTILE)
    shutil.copytree(folder / "runs" / "ridge", folder / "runs" / ("a-long-name-without-a-break" * 6))
    matrix = {"names": [f"a long name {n}" for n in range(9)], "matrix": [[n / 9] * 9 for n in range(9)]}
    sections = {"Transfer": matrix, HOSTILE: {HOSTILE: HOSTILE}}
    return mltk.toolkit.report([folder / "runs"], folder / "x.html", episodes=20, sections=sections)


@pytest.fixture
def page(browser, written):
    with opened(browser, written.as_uri(), viewport={"width": 1200, "height": 900}) as page:
        yield page


def test_nothing_runs_but_what_is_meant_to(page):
    assert page.title() == "mltk report"
    assert page.locator("h2", has_text=HOSTILE).count() == 2
    assert page.locator("script").count() == 1
    assert page.evaluate("typeof alert") == "function"


@pytest.mark.parametrize("width", [320, 360, 768, 1400])
def test_nothing_is_wider_than_the_screen(browser, written, width):
    with opened(browser, written.as_uri(), viewport={"width": width, "height": 700}) as page:
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert page.evaluate("document.scrollingElement.scrollWidth") <= width
        wide = page.evaluate(
            "(width) => [...document.querySelectorAll('figure, dl, h2, details, .scroll, .failure img')]"
            ".map((each) => [each.outerHTML.slice(0, 80), each.getBoundingClientRect()])"
            ".filter(([_, box]) => box.width && (box.right > width || box.left < 0))",
            width,
        )
        assert wide == []
        text = page.evaluate(
            "[...document.querySelectorAll('svg text')].map((each) => each.getBoundingClientRect().height)"
        )
        assert min(text) > 8  # pixels


def test_all_of_it_is_had_by_keyboard(page):
    focused = "document.activeElement.textContent"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Skip to the content"
    box = page.locator(".skip").bounding_box()
    assert box["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    met = set()
    for _ in range(400):
        page.keyboard.press("Tab")
        here = page.evaluate(PLACE)
        if here < 0 or here in met:
            break
        met.add(here)
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    clickable = page.locator("main :is(a, button, summary, [tabindex='0'])").count()
    assert len(met) >= clickable > 30


def test_tables_are_sorted_by_keyboard(page):
    table = page.locator("table", has=page.locator("caption", has_text="All learners"))

    def read():
        return table.evaluate("(each) => [...each.tBodies[0].rows].map((row) => row.cells[4].textContent)")

    button = table.locator("thead th").nth(4).locator("button")
    button.focus()
    page.keyboard.press("Enter")
    assert table.locator("thead th").nth(4).get_attribute("aria-sort") == "ascending"
    up = read()
    assert up == sorted(up, key=float)
    assert up != sorted(up)[::-1]
    page.keyboard.press("Space")
    assert table.locator("thead th").nth(4).get_attribute("aria-sort") == "descending"
    assert read() == up[::-1]
    table.locator("thead th").nth(0).locator("button").click()
    assert table.locator("[aria-sort]").count() == 1


def test_the_theme_is_the_systems_or_the_readers(browser, written):
    shade = "getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(255, 255, 255)", "rgb(20, 23, 28)"
    for scheme, expected, picture in (
        ("light", light, "none"),
        ("dark", dark, "invert(1) hue-rotate(180deg)"),
    ):
        with opened(browser, written.as_uri(), color_scheme=scheme) as page:
            of_picture = "getComputedStyle(document.querySelector('.picture svg')).filter"
            assert (page.evaluate(shade), page.evaluate(of_picture)) == (expected, picture)
            button = page.get_by_role("button", name="Theme")
            for chosen, now, then in (
                ("light", light, "none"),
                ("dark", dark, "invert(1) hue-rotate(180deg)"),
            ):
                button.focus()
                page.keyboard.press("Enter")
                assert button.inner_text() == f"Theme: {chosen}"
                assert (page.evaluate(shade), page.evaluate(of_picture)) == (now, then)
            page.reload()
            assert page.evaluate(shade) == dark
            button.click()
            assert (button.inner_text(), page.evaluate(shade)) == ("Theme: auto", expected)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser, written, scheme):
    with opened(browser, written.as_uri(), color_scheme=scheme) as page:
        found = page.evaluate(CONTRAST, LOOKED_AT)
        assert len(found) > 100
        assert found[0][0] >= 4.5, found[:5]


def test_on_paper_it_is_light_and_whole(browser, written):
    with opened(browser, written.as_uri(), color_scheme="dark") as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert not page.locator("nav").is_visible()
        assert not page.get_by_role("button", name="Theme").is_visible()
        assert page.locator("h2").first.is_visible()
        assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0


def test_without_scripts_all_is_there(browser, written):
    with opened(browser, written.as_uri(), java_script_enabled=False) as page:
        assert page.locator("#overview table tbody tr").count() == 5
        assert not page.get_by_role("button", name="Theme").is_visible()


def test_a_page_that_is_served_follows_its_runs(browser, tmp_path):
    train(tmp_path / "a", steps=3)
    files = RunFolder(tmp_path / "a")
    lines = files.read_metrics()
    files.write_metrics(lines[:1])
    from playwright.sync_api import expect

    with serving(tmp_path) as server, opened(browser, server.url) as page:
        status = page.locator("#status")
        with files.locked():
            expect(status).to_have_text("Runs: 1 running", timeout=20_000)
            page.evaluate("window.same = true")
            page.locator("summary").first.click()
            step, curve = page.locator("dd [data-live='step a']"), page.locator("[data-live='curve a'] svg")
            expect(step).to_have_text("1 of 3")
            before = curve.inner_html()
            files.append_metrics(lines[1])
            expect(step).to_have_text("2 of 3", timeout=20_000)
            assert curve.inner_html() != before
            train(tmp_path / "b", steps=1)
            expect(status).to_have_text("Runs: 1 running, 1 finished", timeout=20_000)
            assert page.locator("nav").inner_text().split() == ["Overview", "a", "b"]
            assert page.locator("details").first.get_attribute("open") == ""
            assert page.evaluate("window.same")
        server.shutdown()
        server.server_close()
        expect(status).to_contain_text("does not answer", timeout=20_000)
        page.wrong = [each for each in page.wrong if "ERR_CONNECTION_REFUSED" not in each]
