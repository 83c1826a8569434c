"""The learning curve of a run, or of several."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import cycle, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mltk.errors import MissingLibraryError, SettingError
from mltk.pictures.figure import BLUE, GREEN, PURPLE, VERMILLION, AnyPath, drawn, save, titled
from mltk.pictures.titles import learner_in_words, loss_in_words, tasks_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

History = Sequence[Mapping[str, float]]
"""The logged steps of a run, each with ``"step"`` and ``"loss"``."""


def learning_curve(
    history: History | Mapping[str, History],
    path: AnyPath,
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
    with drawn(7.0, 4.0) as figure:
        from matplotlib.ticker import MaxNLocator

        axes = figure.add_subplot()
        styles = cycle(product(("-", "--", ":", "-."), (BLUE, VERMILLION, GREEN, PURPLE)))
        for (name, run), (dashes, colour) in zip(runs.items(), styles, strict=False):
            steps = np.array([entry["step"] for entry in run])
            losses = np.array([entry["loss"] for entry in run])
            smooth = running_median(losses)
            alone = len(runs) == 1
            label = "each logged step" if alone else None
            axes.plot(steps, losses, color=colour, linewidth=0.8, alpha=0.35, label=label)
            label, marker = "running median" if alone else name, "o" if len(run) == 1 else ""
            axes.plot(steps, smooth, dashes, color=colour, linewidth=2, marker=marker, label=label)
        found = [entry["loss"] for run in runs.values() for entry in run]
        if min(found) > 0 and max(found) >= 10 * min(found):
            axes.set_yscale("log")
            _label_decades_and_between(axes)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.set_xlabel("meta-iteration")
        axes.set_ylabel(f"{loss}\nafter adaptation")
        titled(axes, f"Learning curve: {title}" if title else "Learning curve", width=7.0)
    return figure


def running_median(values: np.ndarray) -> np.ndarray:
    """The median over a centred window of about a twentieth of the values, shorter at the ends."""
    reach = len(values) // 40
    return np.array(
        [np.median(values[max(0, at - reach) : at + reach + 1]) for at in range(len(values))], dtype=float
    )


def _label_decades_and_between(axes: Axes) -> None:
    """Plain numbers at 1, 2 and 5 of each decade, since a loss often stays within one."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
