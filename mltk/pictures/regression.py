"""The fits of a learner to curves, before and after each inner step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mltk import tree
from mltk.contracts import Backend
from mltk.data.source import TaskSource
from mltk.episode import Episode
from mltk.errors import SettingError, ShapeError
from mltk.pictures.figure import BLACK, BLUE, GREY, VERMILLION, AnyPath, drawn, save, titled
from mltk.tree import Tree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVE_POINTS = 400
"""Inputs at which a true curve and its fits are drawn."""

STEPS_SHOWN = 6
"""At most so many fits are drawn for one task."""


def fits(
    algorithm: Any,
    meta_params: Tree,
    tasks: TaskSource,
    path: AnyPath,
    *,
    backend: Backend,
    seed: int = 0,
    tasks_shown: int = 3,
) -> None:
    """Write the fits to unseen regression tasks, before and after 1…k inner steps, as an SVG file.

    Args:
        algorithm: The learner. If it has a setting ``inner_steps``, the fits after fewer steps are drawn too.
        meta_params: Its meta-parameters.
        tasks: A family of regression tasks with one input and one output.
        path: The file; its folder must exist. It is replaced in one go.
        backend: The backend of the meta-parameters.
        seed: Draws the tasks.
        tasks_shown: How many tasks are drawn.

    Raises:
        SettingError: If the tasks are not regression on one input and one output.
    """
    figure = fits_figure(algorithm, meta_params, tasks, backend=backend, seed=seed, tasks_shown=tasks_shown)
    save(figure, path)


def fits_figure(
    algorithm: Any,
    meta_params: Tree,
    tasks: TaskSource,
    *,
    backend: Backend,
    seed: int = 0,
    tasks_shown: int = 3,
) -> Figure:
    """The picture that `fits` writes: one panel a task, with the mean squared error of first and last fit.

    The error is that at inputs as the tasks draw them; curves are drawn at inputs of equal distance.
    """
    episode = _curves(tasks, tasks_shown, seed, backend)
    predictions = _predictions(algorithm, meta_params, episode)
    support_x, support_y, query_x, query_y = (
        backend.to_numpy(getattr(episode, name))[..., 0]
        for name in ("support_x", "support_y", "query_x", "query_y")
    )
    errors = np.stack([np.mean((outputs - query_y) ** 2, axis=1) for outputs in predictions.values()])
    if hasattr(tasks, "curves"):  # inputs that are drawn leave gaps, in which a curve looks like a polygon
        x = np.linspace(query_x.min(axis=1), query_x.max(axis=1), CURVE_POINTS, axis=1)
        truth = tasks.curves(tasks_shown, seed)(x[..., None])[..., 0]
        query_x, query_y = (backend.asarray(values[..., None]) for values in (x, truth))
        predictions = _predictions(algorithm, meta_params, replace(episode, query_x=query_x, query_y=query_y))
    else:
        order = np.argsort(query_x, axis=1)
        x, truth = (np.take_along_axis(values, order, axis=1) for values in (query_x, query_y))
        predictions = {
            steps: np.take_along_axis(outputs, order, axis=1) for steps, outputs in predictions.items()
        }
    with drawn(3.6 * tasks_shown + 0.4, 4.0) as figure:
        for task in range(tasks_shown):
            axes = figure.add_subplot(1, tasks_shown, task + 1)
            axes.plot(
                x[task], truth[task], color=GREY, linewidth=5, label="true curve", solid_capstyle="butt"
            )
            for steps, style in _styles(list(predictions)).items():
                axes.plot(x[task], predictions[steps][task], **style)
            points: Any = {"markersize": 7, "markeredgecolor": "white", "zorder": 5}
            axes.plot(support_x[task], support_y[task], "o", color=BLACK, label="support points", **points)
            error = f"mean squared error {_change(errors[:, task])}"
            titled(axes, f"Unseen task {task + 1}\n{error}", width=3.6, size=10)
            axes.set_xlabel("input x (no unit)")
            axes.set_ylabel("output y (no unit)")
    return figure


def _curves(tasks: TaskSource, count: int, seed: int, backend: Backend) -> Episode:
    """Unseen tasks with many query points on the true curve, the noise left out of those alone."""
    settings: set[str] = {field.name for field in fields(tasks)} if is_dataclass(tasks) else set()
    if "queries" in settings:
        tasks = replace(cast("Any", tasks), queries=CURVE_POINTS)
    episode = tasks.sample(count, seed, backend)
    if episode.ways is not None or episode.support_x.shape[2:] != (1,) or episode.support_y.shape[2:] != (1,):
        raise SettingError("tasks has several inputs or outputs, or classes; expected curves y(x) of one x")
    if "noise" not in settings:
        return episode
    clean = replace(cast("Any", tasks), noise=0.0).sample(count, seed, backend)
    return replace(episode, query_x=clean.query_x, query_y=clean.query_y)


def _predictions(algorithm: Any, meta_params: Tree, episode: Episode) -> dict[int | None, np.ndarray]:
    """Outputs ``(T, M)`` by number of inner steps; under ``None`` if the algorithm has no such setting."""
    total = getattr(algorithm, "inner_steps", None)
    shown: list[int | None] = [None]
    if isinstance(total, int):
        shown = sorted({round(step) for step in np.linspace(0, total, min(total + 1, STEPS_SHOWN))})
    predictions = {}
    for steps in shown:
        if steps == 0:
            initial = tree.select(meta_params, algorithm.model.shapes)
            outputs = algorithm.model.apply(initial, episode.query_x)
        else:
            learner, params = (
                (algorithm, meta_params) if steps is None else _cut(algorithm, meta_params, steps)
            )
            state = learner.adapt(params, episode.support_x, episode.support_y)
            outputs = learner.predict(state, episode.query_x)
        if tuple(outputs.shape) != tuple(episode.query_y.shape):
            raise ShapeError(
                f"the predictions have shape {tuple(outputs.shape)}; expected {tuple(episode.query_y.shape)}"
            )
        predictions[steps] = episode.backend.to_numpy(outputs)[..., 0]
    return predictions


def _cut(algorithm: Any, meta_params: Tree, steps: int) -> tuple[Any, Tree]:
    """The learner that stops after some inner steps, and its meta-parameters."""
    cut = replace(algorithm, inner_steps=steps)
    if not getattr(algorithm, "lr_per_step", False):
        return cut, meta_params
    key = algorithm.learned_key
    rates = tree.map(lambda leaf: leaf[:steps], {key: meta_params[key]})
    return cut, meta_params | rates


def _styles(shown: list[int | None]) -> dict[int | None, dict[str, Any]]:
    """Line styles by number of steps: dashed vermillion before, then blues from pale to full."""
    import matplotlib

    blues = matplotlib.colormaps["Blues"]
    styles: dict[int | None, dict[str, Any]] = {}
    for steps in shown:
        if steps == 0:
            styles[steps] = {"color": VERMILLION, "linestyle": "--", "linewidth": 1.8, "label": "before"}
            continue
        last = steps == shown[-1]
        shade = BLUE if last else blues(0.3 + 0.45 * shown.index(steps) / len(shown))
        label = "after adaptation" if steps is None else f"after {steps} step{'s' if steps > 1 else ''}"
        styles[steps] = {"color": shade, "linewidth": 2.2 if last else 1.4, "label": label}
    return styles


def _change(errors: Sequence[float] | np.ndarray) -> str:
    first, last = f"{errors[0]:.3g}", f"{errors[-1]:.3g}"
    return last if len(errors) == 1 else f"{first} → {last}"
