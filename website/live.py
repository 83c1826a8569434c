"""Hook of mkdocs: mltk for the browser, and what live figures show at first, computed by their own code."""

from __future__ import annotations

import contextlib
import hashlib
import html
import importlib.metadata
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import array_api_compat
import array_api_extra
import numpy as np
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

import mltk
from mltk import tree
from mltk.files import lock

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "docs" / "assets" / "live"
CACHE = ROOT / "build" / "live"
PACKAGED = ("mltk", "backends")
BESIDE = ("pyproject.toml", "README.md", "LICENSE", "mltk_command.py", "mltk_pytest.py")
KINDS = (".py", ".json", ".html", ".css", ".js", ".typed")
TRAINED = 3000
"""Steps of meta-training behind what is shown of sinusoids."""

SEED = 1
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 300" width="720" height="300">'
PLACE = re.compile(r'<div data-live="([a-z-]+)"></div>')

HERO_TASKS = 6
CODE = """import mltk

backend = mltk.backend("numpy", dtype="float64")
tasks = mltk.data.Sinusoid(shots=10, queries=10)
maml = mltk.algorithms.MAML(mltk.models.mlp([1, 40, 40, 1]), "mse", inner_steps=5)
run = mltk.train(maml, tasks, backend=backend, steps=100, progress=False)
for line in run.history[::20]:
    print(line["step"], line["loss"])
"""
ALT = {
    "sinusoid-hero": (
        "A network meta-trained by MAML on sinusoids. Ten points of a sinusoid that it has not seen are "
        "given; before adaptation its curve misses them, and five gradient steps bring it to them."
    ),
    "sinusoid-maml": "Ten support points, and the fit of a meta-trained network before and after five steps.",
    "draw-a-character": "Three drawn characters and a fourth, which the network takes for the first.",
    "batch-norm-leak": "Two classes of points, and the probability that a network gives each place.",
    "python-cell": "A field for code, and what it prints.",
}
"""The figures, and what their first pictures show."""


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add what is recorded."""
    for name, content in made().items():
        files.append(File.generated(config, f"assets/live/{name}", content=content))
    return files


def on_page_content(content: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put a figure where a page says ``<div data-live="NAME"></div>``."""

    def figure(found: re.Match[str]) -> str:
        return markup(found[1], get_relative_url("assets/live", page.url))

    return PLACE.sub(figure, content)


def markup(name: str, assets: str) -> str:
    """The HTML of a figure: a picture, and the module that puts the moving figure in its place.

    Args:
        name: Its name.
        assets: The address of the folder ``assets/live``, as seen from the page.
    """
    style = f'<link rel="stylesheet" href="{assets}/live.css">'
    picture = f'<img src="{assets}/{name}.svg" alt="{html.escape(ALT[name])}">'
    script = f'<script type="module" src="{assets}/{name}.js"></script>'
    return f'{style}<figure class="live" data-live="{name}">{picture}</figure>{script}'


def figures() -> Any:
    """The module that the page runs, too."""
    spec = importlib.util.spec_from_file_location("live_figures", ASSETS / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sources() -> str:
    """A name for the state of all that the made files depend on."""
    paths = [path for folder in PACKAGED for path in (ROOT / folder).rglob("*") if path.suffix in KINDS]
    seen = hashlib.sha256(f"{array_api_compat.__version__} {array_api_extra.__version__}".encode())
    for path in sorted([*paths, *(ROOT / name for name in BESIDE), Path(__file__), ASSETS / "figures.py"]):
        seen.update(path.read_bytes())
    return seen.hexdigest()[:16]


def made() -> dict[str, bytes]:
    """The files that are made, by their names; made anew where a source has changed."""
    folder = CACHE / sources()
    with alone():
        if not folder.is_dir():
            for old in CACHE.iterdir():
                if old.is_dir():
                    shutil.rmtree(old)
            with TemporaryDirectory(dir=CACHE) as name:
                written = Path(name) / "made"
                written.mkdir()
                for make in MAKERS:
                    for file, content in make().items():
                        (written / file).write_bytes(content)
                written.rename(folder)
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait until no other process is here: tests in parallel make the files once."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("wb") as file:
        while True:
            try:
                lock(file)
                break
            except OSError:
                time.sleep(0.2)
        yield


def packages() -> dict[str, bytes]:
    """The wheel of mltk, and zips of the two packages of pure Python that it cannot do without."""
    found = {}
    with TemporaryDirectory() as name:
        copy = Path(name) / "checkout"
        for packaged in PACKAGED:
            shutil.copytree(ROOT / packaged, copy / packaged, ignore=shutil.ignore_patterns("__pycache__"))
        for file in BESIDE:
            shutil.copy(ROOT / file, copy)
        command = [
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "-w",
            name,
            str(copy),
        ]
        subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
        (wheel,) = Path(name).glob("*.whl")
        found[wheel.name] = wheel.read_bytes()
    for package in (array_api_compat, array_api_extra):
        folder = Path(package.__path__[0])
        about = importlib.metadata.distribution(package.__name__).files or []
        licences = [path for path in about if "licen" in path.name.lower()]
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(folder.rglob("*.py")):
                archive.write(path, f"{folder.name}/{path.relative_to(folder)}")
            for licence in licences:
                archive.write(str(licence.locate()), str(licence))
        found[f"{package.__name__}.zip"] = written.getvalue()
    told = {"packages": list(found), "files": ["figures.py", "character.npz"]}
    return {**found, "packages.json": as_json(told)}


def as_json(value: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def sinusoids() -> dict[str, bytes]:
    """The fits of a meta-trained network, step by step, for the landing page and for the figure."""
    live = figures()
    maml = live.sinusoid_maml()
    losses = np.reshape(live.TRAINING.go_on(TRAINED, maml), (-1, 10)).mean(axis=1)
    meta = live.TRAINING.meta
    learners = [live.sinusoid_maml(steps=steps) for steps in range(maml.inner_steps + 1)]
    rng = np.random.default_rng(1)
    episode = live.TASKS.sample(HERO_TASKS, rng, live.DOUBLE)
    fits = live.fits(meta, learners, episode, live.GRID[None, :, None])
    queries = live.fits(meta, learners, episode, episode.query_x) - episode.query_y[:, None, :, 0]
    errors = np.mean(queries**2, axis=-1)
    tasks: list[dict[str, Any]] = [
        {
            "x": x[:, 0].round(3).tolist(),
            "y": y[:, 0].round(3).tolist(),
            "fits": fit.round(3).tolist(),
            "errors": error.round(3).tolist(),
        }
        for x, y, fit, error in zip(episode.support_x, episode.support_y, fits, errors, strict=True)
    ]
    tasks.sort(key=lambda task: -max(map(abs, task["y"])))  # what is seen first moves most
    grid = live.GRID.round(3).tolist()
    settings = {"rate": live.RATE, "steps": live.STEPS, "first_order": False}
    task = live.sinusoid_task(SEED)
    figure = {
        **{"grid": grid, "settings": settings, "step": TRAINED, "losses": losses.round(4).tolist()},
        **{"seed": SEED, "task": task, "fit": live.sinusoid_fit(task, **settings)},
        "state": live.TRAINING.kept(),
    }
    first = {"x": task["support_x"], "y": task["support_y"], "fits": figure["fit"]["fits"]}
    return {
        "sinusoid-hero.json": as_json({"grid": grid, "tasks": tasks}),
        "sinusoid-hero.svg": fits_svg(grid, tasks[0]).encode(),
        "sinusoid-maml.json": as_json(figure),
        "sinusoid-maml.svg": fits_svg(grid, first).encode(),
    }


def characters() -> dict[str, bytes]:
    """A trained prototypical network, in half precision, and what it says of examples."""
    live = figures()
    parameters = {
        name: leaf.astype(np.float16) for name, leaf in tree.flatten(live.character_training()).items()
    }
    written = io.BytesIO()
    np.savez_compressed(written, **parameters)
    with TemporaryDirectory() as folder:
        live.FOLDER = Path(folder)
        (live.FOLDER / "character.npz").write_bytes(written.getvalue())
        examples = live.character_examples(SEED)
        decision = live.character_decide(examples["support"], examples["queries"][0])
        tasks = live.GLYPHS.held_out().tasks(ways=3, shots=1, queries=5)
        accuracy = mltk.evaluate(live.PROTOTYPICAL, live.character_parameters(), tasks, episodes=200, seed=1)
    found = {"seed": SEED, "examples": examples, "decision": decision, "accuracy": str(accuracy)}
    images = np.reshape([*examples["support"], examples["queries"][0]], (4, 28, 28))
    return {
        "character.npz": written.getvalue(),
        "draw-a-character.json": as_json(found),
        "draw-a-character.svg": images_svg(images).encode(),
    }


def leak() -> dict[str, bytes]:
    """Two networks that differ in the statistics of their batch norm, and what they say of a task."""
    live = figures()
    task = live.leak_task(SEED)
    meta, evaluated = {}, {}
    for statistics in ("batch", "support"):
        params = live.leak_training(statistics)
        meta[statistics] = {name: live.packed(leaf) for name, leaf in tree.flatten(params).items()}
        judged = mltk.evaluate(live.leak_maml(statistics), params, live.LEAK_TASKS, episodes=300, seed=1)
        interval = judged.interval("tasks")
        accuracy = f"{interval.estimate:.3f} ± {(interval.high - interval.low) / 2:.3f}"
        evaluated[statistics] = {
            "accuracy": accuracy,
            "one_class": f"{live.leak_of_one_class(statistics, params):.3f}",
            "transductive": judged.transductive,
        }
    found = live.leak_predict(task, task["queries"], meta)
    figure = {"seed": SEED, "grid": live.LEAK_GRID.tolist(), "task": task, "found": found}
    return {
        "batch-norm-leak.json": as_json(figure | {"meta": meta, "evaluated": evaluated}),
        "batch-norm-leak.svg": points_svg(task).encode(),
    }


def code() -> dict[str, bytes]:
    """The code that stands in the field for code at first, and what it prints."""
    output = figures().cell(CODE)
    lines = "".join(
        f'<text x="20" y="{30 + 22 * number}">{html.escape(line)}</text>'
        for number, line in enumerate(CODE.splitlines())
    )
    picture = f'{SVG}<g font-family="monospace" font-size="15">{lines}</g></svg>\n'
    return {
        "python-cell.json": as_json({"code": CODE, "output": output}),
        "python-cell.svg": picture.encode(),
    }


def fits_svg(grid: list[float], task: dict[str, Any]) -> str:
    """A task as a picture: the curve before, in between and after, and the support points."""

    def place(x: float, y: float) -> str:
        return f"{360 + 68 * x:.1f},{150 - 26 * y:.1f}"

    last = len(task["fits"]) - 1
    curves = []
    for step, fit in enumerate(task["fits"]):
        colour, width = ("#0072B2", 2) if step == 0 else ("#D55E00", 3.5 if step == last else 1)
        opacity = 1 if step in (0, last) else 0.2 + 0.5 * step / last
        points = " ".join(place(x, y) for x, y in zip(grid, fit, strict=True))
        style = f'stroke="{colour}" stroke-width="{width}" opacity="{opacity:.2f}"'
        curves.append(f'<polyline points="{points}" {style}/>')
    dots = [
        '<circle cx="{}" cy="{}" r="5"/>'.format(*place(x, y).split(","))
        for x, y in zip(task["x"], task["y"], strict=True)
    ]
    axis = '<path d="M20 150H700" stroke="#999" stroke-width="1"/>'
    lines = f'<g fill="none" stroke-linejoin="round">{"".join(curves)}</g>'
    return f"{SVG}{axis}{lines}<g>{''.join(dots)}</g></svg>\n"


def images_svg(images: np.ndarray) -> str:
    """Images side by side."""
    pixels = [
        f'<rect x="{20 + 175 * number + 5.5 * x:.1f}" y="{70 + 5.5 * y:.1f}" width="5.6" height="5.6" '
        f'opacity="{image[y, x] / 255:.2f}"/>'
        for number, image in enumerate(images)
        for y, x in zip(*np.nonzero(image), strict=True)
    ]
    return f"{SVG}{''.join(pixels)}</svg>\n"


def points_svg(task: dict[str, Any]) -> str:
    """The support points in the colours of their classes, and the queries."""
    dots = [
        f'<circle cx="{360 + 25 * x:.1f}" cy="{150 - 25 * y:.1f}" r="6" fill="{colour}"/>'
        for points, colours in (
            (task["support"], [("#0072B2", "#D55E00")[label] for label in task["labels"]]),
            (task["queries"], ["#666"] * len(task["queries"])),
        )
        for (x, y), colour in zip(points, colours, strict=True)
    ]
    return f"{SVG}{''.join(dots)}</svg>\n"


MAKERS: tuple[Callable[[], dict[str, bytes]], ...] = (packages, sinusoids, characters, leak, code)
