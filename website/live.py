"""Hook of mkdocs: the figures that move, recorded when the site is built with the code that the page runs."""

from __future__ import annotations

import hashlib
import html
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

import mltk

ROOT = Path(__file__).parent.parent
ASSETS = ROOT / "docs" / "assets" / "live"
CACHE = ROOT / "build" / "live"
PLACE = re.compile(r'<div data-live="([a-z-]+)"></div>')

HERO_TASKS = 6
HERO_ALT = (
    "A network meta-trained by MAML on sinusoids. Ten points of a sinusoid that it has not seen are given; "
    "before adaptation its curve misses them, and five gradient steps bring it to them."
)


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
    picture = f'<img src="{assets}/hero.svg" alt="{html.escape(HERO_ALT)}" width="720" height="300">'
    script = f'<script type="module" src="{assets}/hero.js"></script>'
    return f'{style}<figure class="live" data-live="{name}">{picture}</figure>{script}'


def figures() -> ModuleType:
    """The module that the page runs, too."""
    spec = importlib.util.spec_from_file_location("live_figures", ASSETS / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sources() -> str:
    """A name for the state of all that the recorded files depend on."""
    paths = [*(ROOT / "mltk").rglob("*.py"), *(ROOT / "backends").rglob("*.py"), ROOT / "pyproject.toml"]
    seen = hashlib.sha256()
    for path in sorted([*paths, Path(__file__), ASSETS / "figures.py"]):
        seen.update(path.read_bytes())
    return seen.hexdigest()[:16]


def made() -> dict[str, bytes]:
    """The files that are made, by their names; made anew where a source has changed."""
    folder = CACHE / sources()
    if not folder.is_dir():
        written = folder.with_suffix(".part")
        written.mkdir(parents=True, exist_ok=True)
        for make in MAKERS:
            for name, content in make().items():
                (written / name).write_bytes(content)
        written.rename(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def as_json(value: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


def hero() -> dict[str, bytes]:
    """The moving picture of the landing page: fits of a meta-trained network, step by step, task by task."""
    live = figures()
    maml = live.sinusoid_maml()
    run = mltk.train(
        maml, live.TASKS, backend=live.BACKEND, steps=live.TRAINED, meta_batch=live.META_BATCH, progress=False
    )
    rng = np.random.default_rng(1)
    episode = live.TASKS.sample(HERO_TASKS, rng, live.BACKEND)
    fits = live.fits(run.meta_params, maml, episode.support_x, episode.support_y)
    queries = np.stack(
        [
            mean_squares(live.sinusoid_maml(maml.inner_lr, steps), run.meta_params, episode)
            for steps in range(maml.inner_steps + 1)
        ],
        axis=1,
    )
    tasks: list[dict[str, Any]] = [
        {
            "x": x[:, 0].round(3).tolist(),
            "y": y[:, 0].round(3).tolist(),
            "fits": fit.round(3).tolist(),
            "errors": error.round(3).tolist(),
        }
        for x, y, fit, error in zip(episode.support_x, episode.support_y, fits, queries, strict=True)
    ]
    tasks.sort(key=lambda task: -max(map(abs, task["y"])))  # what is seen first moves most
    found = {"grid": live.GRID.round(3).tolist(), "tasks": tasks}
    return {"hero.json": as_json(found), "hero.svg": hero_svg(found).encode()}


def mean_squares(maml: mltk.algorithms.MAML, meta: Any, episode: mltk.Episode) -> np.ndarray:
    """The mean squared error of each task's queries."""
    outputs = maml.predict(maml.adapt(meta, episode.support_x, episode.support_y), episode.query_x)
    return np.asarray(np.mean((outputs - episode.query_y) ** 2, axis=(1, 2)))


def hero_svg(found: dict[str, Any]) -> str:
    """The first task as a picture: the curve before, in between and after, and the support points."""
    task, grid = found["tasks"][0], found["grid"]

    def place(x: float, y: float) -> str:
        return f"{360 + 68 * x:.1f},{150 - 26 * y:.1f}"

    last = len(task["fits"]) - 1
    curves = []
    for step, fit in enumerate(task["fits"]):
        colour, width = ("#0072B2", 2) if step == 0 else ("#D55E00", 3.5 if step == last else 1)
        opacity = 1 if step in (0, last) else 0.2 + 0.5 * step / last
        points = " ".join(place(x, y) for x, y in zip(grid, fit, strict=True))
        curves.append(
            f'<polyline points="{points}" stroke="{colour}" stroke-width="{width}" opacity="{opacity:.2f}"/>'
        )
    dots = [
        '<circle cx="{}" cy="{}" r="5"/>'.format(*place(x, y).split(","))
        for x, y in zip(task["x"], task["y"], strict=True)
    ]
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 300" width="720" height="300">'
        '<path d="M20 150H700" stroke="#999" stroke-width="1"/>'
        f'<g fill="none" stroke-linejoin="round">{"".join(curves)}</g><g>{"".join(dots)}</g></svg>\n'
    )


MAKERS: tuple[Callable[[], dict[str, bytes]], ...] = (hero,)
