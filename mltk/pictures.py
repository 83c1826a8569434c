"""Pictures of a run, as SVG: the learning curve, and the fit before and after each inner step.

A picture is built as a `matplotlib.figure.Figure` (``*_figure``), which can be inspected or changed, and then
written by `save`. Global state of matplotlib is neither used nor changed, and the same data gives the same
bytes. Colours are those of Okabe & Ito (2008), which colour-blind readers can tell apart.
"""

from __future__ import annotations

import io
import math
import os
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mltk import tree
from mltk.backend import Backend
from mltk.data.source import TaskSource
from mltk.episode import Episode
from mltk.errors import MissingLibraryError, SettingError, ShapeError
from mltk.installation import needed_for
from mltk.picture_titles import learner_in_words, loss_in_words, tasks_in_words
from mltk.run_folder import replace_file
from mltk.tree import Tree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, float]]
"""The logged steps of a run, each with ``"step"`` and ``"loss"``."""

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
BLACK, GREY = "#000000", "#BBBBBB"

CURVE_POINTS = 400
"""Inputs at which a true curve and its fits are drawn."""

STEPS_SHOWN = 6
"""At most so many fits are drawn for one task."""


def learning_curve(
    history: History | Mapping[str, History],
    path: str | os.PathLike[str],
    *,
    title: str = "",
    loss: str = "loss",
) -> None:
    """Write the meta-loss over the meta-iterations as an SVG file.

    Args:
        history: The logged steps of one run, or of several under their names.
        path: The file; its folder must exist. It is replaced in one go.
        title: Which learner, on which tasks.
        loss: Which loss it is, with its unit.

    Raises:
        SettingError: If there is no logged step.
    """
    save(learning_curve_figure(history, title=title, loss=loss), path)


def curve_of_run(algorithm: Any, tasks: Any, history: History, path: Path) -> None:
    """`learning_curve` with the words for a run; whole without a picture where Matplotlib is not."""
    title = f"{learner_in_words(algorithm)} on {tasks_in_words(tasks)}"
    try:
        learning_curve(history, path, title=title, loss=loss_in_words(algorithm, tasks))
    except MissingLibraryError as error:
        warnings.warn(f"{path} was not drawn: {error}", stacklevel=3)


def learning_curve_figure(
    history: History | Mapping[str, History], *, title: str = "", loss: str = "loss"
) -> Figure:
    """The picture that `learning_curve` writes: each run's losses, pale, under their running median."""
    runs = cast("Mapping[str, History]", history if isinstance(history, Mapping) else {"meta-loss": history})
    if not all(runs.values()) or not runs:
        raise SettingError("history is empty; expected at least one logged step")
    with plain_style():
        from matplotlib.ticker import MaxNLocator

        figure = blank_figure(7.0, 4.0)
        axes = figure.add_subplot()
        styles = cycle(product(("-", "--", ":", "-."), (BLUE, VERMILLION, GREEN, PURPLE)))
        for (name, run), (dashes, colour) in zip(runs.items(), styles, strict=False):
            steps = np.array([entry["step"] for entry in run])
            losses = np.array([entry["loss"] for entry in run])
            smooth = running_median(losses)
            alone = len(runs) == 1
            axes.plot(
                steps,
                losses,
                color=colour,
                linewidth=0.8,
                alpha=0.35,
                label="each logged step" if alone else None,
            )
            axes.plot(
                steps,
                smooth,
                color=colour,
                linestyle=dashes,
                linewidth=2,
                marker="o" if len(run) == 1 else "",
                label="running median" if alone else name,
            )
        found = [entry["loss"] for run in runs.values() for entry in run]
        if min(found) > 0 and max(found) >= 10 * min(found):
            axes.set_yscale("log")
            _label_decades_and_between(axes)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.set_xlabel("meta-iteration")
        axes.set_ylabel(f"{loss}\non the query set after adaptation")
        titled(axes, f"Learning curve: {title}" if title else "Learning curve", width=7.0)
        legend_below(figure)
    return figure


def running_median(values: np.ndarray) -> np.ndarray:
    """The median over a centred window of about a twentieth of the values, shorter at the ends."""
    reach = len(values) // 40
    return np.array(
        [np.median(values[max(0, at - reach) : at + reach + 1]) for at in range(len(values))], dtype=float
    )


def fits(
    algorithm: Any,
    meta_params: Tree,
    tasks: TaskSource,
    path: str | os.PathLike[str],
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
    with plain_style():
        figure = blank_figure(3.6 * tasks_shown + 0.4, 4.0)
        for task in range(tasks_shown):
            axes = figure.add_subplot(1, tasks_shown, task + 1)
            axes.plot(
                x[task], truth[task], color=GREY, linewidth=5, label="true curve", solid_capstyle="butt"
            )
            for steps, style in _styles(list(predictions)).items():
                axes.plot(x[task], predictions[steps][task], **style)
            axes.plot(
                support_x[task],
                support_y[task],
                linestyle="",
                marker="o",
                markersize=7,
                color=BLACK,
                markeredgecolor="white",
                label="support points",
                zorder=5,
            )
            titled(
                axes,
                f"Unseen task {task + 1}\nmean squared error {_change(errors[:, task])}",
                width=3.6,
                size=10,
            )
            axes.set_xlabel("input $x$ (no unit)")
            axes.set_ylabel("output $y$ (no unit)")
        legend_below(figure)
    return figure


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a picture as SVG, without date, in one go: the same data gives the same bytes.

    Raises:
        RunError: If the file cannot be written; a previous one is then intact.
    """
    import matplotlib

    content = io.BytesIO()
    with plain_style(), matplotlib.rc_context({"svg.hashsalt": "mltk"}):
        # What is wider than the figure, such as a long name, makes the picture wider: nothing is cut off.
        figure.savefig(content, format="svg", metadata={"Date": None}, bbox_inches="tight")
    replace_file(Path(path), lambda file: file.write(content.getvalue()))


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


def blank_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches."""
    with needed_for("pictures"):
        from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def titled(axes: Axes, title: str, *, width: float, size: float = 11) -> None:
    """Give a panel of a width in inches a title, in lines that are not wider than it."""
    letters = int(120 * width / size)  # a letter is 0.6 times as wide as high
    lines = [line for given in title.split("\n") for line in textwrap.wrap(given, letters)]
    axes.set_title("\n".join(lines), fontsize=size)


def legend_below(figure: Figure) -> None:
    """A legend under all panels, in as many columns as fit; the figure grows by its rows."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    column = 0.6 + 0.085 * max(map(len, labels))  # inches
    columns = max(1, min(len(labels), int(figure.get_figwidth() / column)))
    figure.set_figheight(figure.get_figheight() + 0.22 * (math.ceil(len(labels) / columns) - 1))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def _label_decades_and_between(axes: Axes) -> None:
    """Plain numbers at 1, 2 and 5 of each decade, since a loss often stays within one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


@contextmanager
def plain_style() -> Iterator[None]:
    """Matplotlib's own defaults with a light grid, whatever the user's settings are."""
    with needed_for("pictures"):
        import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {"axes.grid": True, "grid.alpha": 0.25, "axes.spines.top": False, "axes.spines.right": False}
        )
        yield
