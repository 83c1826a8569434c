"""The live figures in a browser: mltk trains in the page, with the same digits.

These tests need Chromium (``apt-get install chromium``) and a local Pyodide (``make .venv/pyodide``), and
skip where one is absent.
"""

import re
import shutil
import sys
import threading
from contextlib import contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from built_site import Quiet

import mltk

pytest.importorskip("mkdocs", reason="the site is built where the extra docs is installed")
live = pytest.importorskip("live")

FIGURES = sorted(live.ALT)
RUNNING = [name for name in FIGURES if name != "sinusoid-hero"]
SETTINGS = {"rate": 0.02, "steps": 5, "first_order": False}
PYODIDE = Path(sys.prefix) / "pyodide"

PAGE = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A figure</title>'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<link rel="icon" href="data:,"></head>'
    '<body class="md-typeset" data-md-color-scheme="default"><main><h1>A figure</h1>{}</main></body></html>'
)


@pytest.fixture(scope="module")
def address(made, tmp_path_factory):
    """Where a page for each figure is served, with Pyodide beside them where it is."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(live.ASSETS, folder / "live", ignore=shutil.ignore_patterns("__pycache__"))
    for name, content in made.items():
        (folder / "live" / name).write_bytes(content)
    for name in FIGURES:
        (folder / f"{name}.html").write_text(PAGE.format(live.markup(name, "live")))
    if PYODIDE.is_dir():
        (folder / "pyodide").symlink_to(PYODIDE)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


needs_pyodide = pytest.mark.skipif(not PYODIDE.is_dir(), reason="no local Pyodide: make .venv/pyodide")


@contextmanager
def opened(browser, address, name, query="?pyodide=/pyodide/", wrong=True, **how):
    """The page of a figure, which is noted if it complains."""
    context = browser.new_context(**{"viewport": {"width": 1000, "height": 900}, **how})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.wrong, page.asked = [], []
    page.on("console", lambda said: page.wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.route(
        lambda url: not url.startswith(address),
        lambda route: (page.asked.append(route.request.url), route.abort()),
    )
    page.goto(f"{address}/{name}.html{query}")
    page.wait_for_selector("[data-ready]")
    yield page
    assert not wrong or page.wrong == []
    context.close()


def press(page, name, key="Enter"):
    page.get_by_role("button", name=name).focus()
    page.keyboard.press(key)


def wait(page, state):
    page.wait_for_selector(f'[data-state="{state}"]')


def data(page, name):
    return page.locator(".live").get_attribute(f"data-{name}")


def until(page, condition):
    page.wait_for_function(
        f"(() => {{ const live = document.querySelector('.live'); return {condition}; }})()"
    )


@needs_pyodide
def test_the_page_computes_the_same_digits(browser, address, figures, recorded):
    task, leak = figures.sinusoid_task(1), recorded["batch-norm-leak"]
    asked = [
        ("sinusoid_start", {}),
        ("sinusoid_train", {"count": 100, **SETTINGS}),
        ("sinusoid_fit", {"task": task, **SETTINGS}),
        ("sinusoid_start", {"state": recorded["sinusoid-maml"]["state"]}),
        ("sinusoid_train", {"count": 10, **SETTINGS}),
        ("character_examples", {"seed": 5}),
        ("leak_predict", {"task": leak["task"], "queries": leak["task"]["queries"], "meta": leak["meta"]}),
    ]
    native = [getattr(figures, name)(**given) for name, given in asked]
    with opened(browser, address, "sinusoid-maml") as page:
        found = page.evaluate(
            """async (asked) => {
              const { Engine } = await import("./live/live.js");
              const root = document.createElement("div");
              root.dataset.pyodide = "/pyodide/";
              const engine = new Engine(root, { ready() {}, stopped() {} });
              const answers = [];
              for (const [name, given] of asked) answers.push(await engine.call(name, given));
              await engine.call("sinusoid_train", {}).catch(() => {});
              const trouble = engine.status.textContent;
              return [answers, await engine.call("about"), trouble, engine.status.textContent];
            }""",
            asked,
        )
    answers, about, trouble, status = found
    assert "missing" in trouble
    assert status.startswith("mltk ")
    assert about["machine"] == "wasm32"
    assert about["mltk"] == mltk.__version__
    print(f"meta-loss 100: native {native[1]['losses'][-1]!r}, in the page {answers[1]['losses'][-1]!r}")
    for there, here in ((1, 1), (4, 4)):
        assert answers[there]["losses"] == pytest.approx(native[here]["losses"], rel=1e-11)
    assert np.array(answers[2]["fits"]) == pytest.approx(np.array(native[2]["fits"]), abs=1e-10)
    for row in answers[2]["check"]:
        assert row["exact"] == pytest.approx(row["central"], abs=1e-8)
    assert np.abs(np.subtract(answers[5]["support"], native[5]["support"])).max() <= 1
    for statistics in ("batch", "support"):
        own = [each[6][statistics]["queries"] for each in (answers, native)]
        assert own[0] == pytest.approx(own[1], rel=1e-11)


@needs_pyodide
def test_the_page_that_is_shown_trains(browser, address):
    text = (live.ROOT / "docs" / "live" / "index.md").read_text()
    (shown,) = re.findall(r"```html\n(.*?)```", text, re.S)
    shown = shown.replace("https://cdn.jsdelivr.net/pyodide/v0.27.7/full/", f"{address}/pyodide/")
    shown = shown.replace('"assets/live/"', '"live/"')
    context = browser.new_context()
    page = context.new_page()
    page.route(f"{address}/shown.html", lambda route: route.fulfill(body=shown, content_type="text/html"))
    page.goto(f"{address}/shown.html")
    page.wait_for_function("document.body?.textContent.includes('meta-loss')", timeout=60_000)
    backend = mltk.backend("numpy")
    maml = mltk.algorithms.MAML(mltk.models.mlp([1, 40, 40, 1]), "mse")
    tasks = mltk.data.Sinusoid(shots=10, queries=10).sample(4, rng=0, backend=backend)
    loss, _ = maml.value_and_grad(maml.init(backend, seed=0), tasks)
    assert page.locator("body").inner_text().strip().endswith(f"meta-loss {float(loss):.4f}")
    context.close()


@needs_pyodide
def test_sinusoids_by_keyboard_and_after_a_stop(browser, address):
    with opened(browser, address, "sinusoid-maml") as page:
        said = page.locator(".said").inner_text()
        page.get_by_role("slider", name="Support point 3", exact=True).focus()
        for _ in range(12):
            page.keyboard.press("ArrowUp")  # which starts it, too
        wait(page, "live")
        page.wait_for_function("(said) => document.querySelector('.said').textContent !== said", arg=said)
        assert float(data(page, "agrees")) < 1e-8
        press(page, "Meta-train")
        until(page, "Number(live.dataset.step) >= 3100")
        press(page, "Pause", "Space")
        page.get_by_role("button", name="Meta-train").wait_for()
        page.get_by_label("Meta-gradient").select_option("first")
        press(page, "Start over")
        until(page, "live.dataset.step === '0'")
        press(page, "Meta-train")
        until(page, "Number(live.dataset.step) >= 50")
        press(page, "Stop")
        wait(page, "recorded")
        assert data(page, "step") == "3000"
        assert page.locator(".said").inner_text() == said
        press(page, "Run it live")
        wait(page, "live")
        press(page, "Meta-train")
        until(page, "Number(live.dataset.step) >= 3010")
        assert page.get_by_label("Meta-gradient").input_value() == "second"


@needs_pyodide
def test_support_points_are_dragged(browser, address):
    with opened(browser, address, "sinusoid-maml") as page:
        press(page, "Run it live")
        wait(page, "live")
        before = page.locator(".after").get_attribute("points")
        point = page.get_by_role("slider", name="Support point 5", exact=True)
        box = point.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.down()
        page.mouse.move(box["x"] + 20, box["y"] - 80, steps=10)
        page.mouse.up()
        page.wait_for_function(
            "(before) => document.querySelector('.after').getAttribute('points') !== before", arg=before
        )
        moved = point.bounding_box()
        assert moved["y"] < box["y"] - 60


@needs_pyodide
def test_characters_are_drawn_or_filled_in(browser, address):
    with opened(browser, address, "draw-a-character") as page:
        press(page, "Fill with examples")
        wait(page, "live")
        until(page, "live.dataset.answer === 'C'")
        page.get_by_label("Query", exact=True).select_option("0")
        until(page, "live.dataset.answer === 'A'")
        for name in ("Class A", "Class B", "Class C", "Query"):
            press(page, f"Clear {name}")
        until(page, "live.dataset.answer === undefined")
        shapes = {
            0: [[(0.2, 0.8), (0.5, 0.2), (0.8, 0.8)], [(0.3, 0.6), (0.7, 0.6)]],
            1: [[(0.2, 0.2), (0.8, 0.2)], [(0.5, 0.2), (0.5, 0.8)]],
            2: [[(0.2, 0.2), (0.8, 0.2), (0.2, 0.8), (0.8, 0.8)]],
            3: [[(0.25, 0.25), (0.75, 0.2)], [(0.52, 0.22), (0.45, 0.8)]],
        }
        for pad, strokes in shapes.items():
            box = page.locator("canvas").nth(pad).bounding_box()
            for stroke in strokes:
                at = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
                page.mouse.move(*at[0])
                page.mouse.down()
                for point in at[1:]:
                    page.mouse.move(*point, steps=8)
                page.mouse.up()
        until(page, "live.dataset.answer === 'B'")
        for pad in (0, 1, 2, 3):  # a dot each: which is nearest nobody can say
            press(page, f"Clear {'Query' if pad == 3 else 'Class ' + 'ABC'[pad]}")
            page.locator("canvas").nth(pad).click(position={"x": 20, "y": 20})
        until(page, "live.dataset.answer === 'ABC'")
        said = page.locator(".said").first.inner_text()
        assert "to the classes A, B, C alike: probability 33.3 % each" in said
        press(page, "Stop")
        wait(page, "recorded")
        assert data(page, "answer") == "A"


@needs_pyodide
def test_a_leak_is_seen_by_keyboard(browser, address):
    with opened(browser, address, "batch-norm-leak") as page:
        before = {name: data(page, name) for name in ("batch", "support")}
        page.get_by_label("Move them right by").focus()
        for _ in range(8):
            page.keyboard.press("ArrowRight")
        wait(page, "live")
        until(page, f"Math.abs(live.dataset.batch - {before['batch']}) > 0.1")
        assert float(data(page, "support")) == pytest.approx(float(before["support"]), rel=1e-12)
        page.get_by_role("slider", name="The query", exact=True).first.focus()
        page.keyboard.press("Shift+ArrowDown")
        until(page, f"Math.abs(live.dataset.support - {before['support']}) > 1e-6")
        press(page, "Stop")
        wait(page, "recorded")
        assert {name: data(page, name) for name in before} == before


@needs_pyodide
def test_code_runs_in_a_cell_and_is_stopped(browser, address, figures):
    with opened(browser, address, "python-cell") as page:
        press(page, "Run the code")
        wait(page, "live")
        until(page, "live.querySelector('pre').textContent.startsWith('1 ')")
        numbers = [
            [float(part) for part in line.split()]
            for line in page.locator("pre").inner_text().split("\n")
            if line
        ]
        expected = [[float(part) for part in line.split()] for line in figures.cell(live.CODE).splitlines()]
        assert np.array(numbers) == pytest.approx(np.array(expected), rel=1e-11)
        page.get_by_label("Python with mltk and NumPy").fill("while True: pass")
        press(page, "Run the code")
        until(page, "live.querySelector('pre').textContent.startsWith('running')")
        press(page, "Stop")
        wait(page, "recorded")
        until(page, "live.querySelector('pre').textContent.startsWith('1 ')")
        page.get_by_label("Python with mltk and NumPy").fill("print('again')")
        press(page, "Run the code")
        until(page, "live.querySelector('pre').textContent.startsWith('again')")


@pytest.mark.parametrize("name", RUNNING)
def test_a_figure_that_cannot_load_python_says_so_and_stays(browser, address, name):
    with opened(browser, address, name, query="?pyodide=/nowhere/", wrong=False) as page:
        shown = page.locator(".live svg, .live pre").first.inner_html()
        for _ in range(2):
            press(page, "Run it live")
            page.get_by_text("could not be loaded").wait_for()
            wait(page, "recorded")
        assert page.locator(".live svg, .live pre").first.inner_html() == shown


def test_nothing_is_fetched_from_elsewhere_before_the_reader_asks(browser, address):
    with opened(
        browser, address, "sinusoid-maml", query="?pyodide=https://example.org/", wrong=False
    ) as page:
        page.wait_for_timeout(300)
        assert page.asked == []
        press(page, "Run it live")
        page.get_by_text("could not be loaded").wait_for()
        assert page.asked == ["https://cdn.jsdelivr.net/pyodide/v0.27.7/full/pyodide.mjs"]


def test_the_moving_picture_moves_unless_motion_is_unwanted(browser, address):
    curve = "document.querySelector('.after').getAttribute('points')"
    with opened(browser, address, "sinusoid-hero") as page:
        before = page.evaluate(curve)
        page.wait_for_function(f"(before) => {curve} !== before", arg=before)
        press(page, "Pause")
        still = page.evaluate(curve)
        page.wait_for_timeout(1500)
        assert page.evaluate(curve) == still
    with opened(browser, address, "sinusoid-hero", reduced_motion="reduce") as page:
        still = page.evaluate(curve)
        page.wait_for_timeout(1500)
        assert page.evaluate(curve) == still
        press(page, "Play")
        page.wait_for_function(f"(before) => {curve} !== before", arg=still)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_fits_a_telephone_and_those_who_do_not_see_it(browser, address, name):
    with opened(browser, address, name, viewport={"width": 390, "height": 700}) as page:
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
        axe = pytest.importorskip(
            "axe_playwright_python.sync_playwright", reason="axe judges pages: extra dev"
        )
        found = axe.Axe().run(page).response["violations"]
        assert [each for each in found if each["impact"] in ("serious", "critical")] == []
