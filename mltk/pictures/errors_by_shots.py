"""How the error of a learner falls with the shots, beside what is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mltk.pictures.figure import BLACK, BLUE, VERMILLION, AnyPath, check_result, drawn, save, titled
from mltk.task_analysis.learnability import Learnability

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def errors_by_shots(found: Learnability, path: AnyPath, *, title: str = "") -> None:
    """Write the picture that `errors_by_shots_figure` makes as an SVG file.

    Args:
        found: As from `mltk.LearnabilityAnalyzer`.
        path: The file; its folder must exist. It is replaced in one go.
        title: Which learner, on which tasks.
    """
    save(errors_by_shots_figure(found, title=title), path)


def errors_by_shots_figure(found: Learnability, *, title: str = "") -> Figure:
    """Mean errors with their intervals over tasks, the fitted law with its band, and the best possible.

    Args:
        found: As from `mltk.LearnabilityAnalyzer`.
        title: Which learner, on which tasks.

    Raises:
        MissingLibraryError: If matplotlib is not installed.
    """
    check_result("found", found, Learnability, "mltk.LearnabilityAnalyzer(...).run()")
    shots = np.asarray(found.shots, dtype=float)
    intervals = [found.error(each) for each in found.shots]
    means = np.asarray([each.estimate for each in intervals])
    with drawn(7.0, 4.6) as figure:
        axes = figure.add_subplot()
        if found.law is not None and found.resampled is not None:
            grid = np.geomspace(shots.min(), shots.max(), 100)
            low, high = np.quantile(_law(found.resampled, grid), [0.025, 0.975], axis=0)
            axes.fill_between(grid, low, high, color=VERMILLION, alpha=0.25, linewidth=0)
            label = "power law, with its 95 % band"
            axes.plot(grid, _law(found.law[None], grid)[0], color=VERMILLION, linewidth=2, label=label)
        half = [each.half_width for each in intervals]
        label = "mean error, 95 % over tasks"
        axes.errorbar(shots, means, yerr=half, fmt="o", color=BLUE, capsize=3, label=label)
        if found.optimum is not None:
            axes.plot(
                shots, found.optimum.mean(axis=0), "--", color=BLACK, clip_on=False, label="the best possible"
            )
        axes.set_xscale("log")
        axes.set_xticks(shots, [f"{each:g}" for each in shots])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("support examples")
        axes.set_ylabel("mean squared error" if found.metric == "mse" else "error: 1 − accuracy")
        titled(axes, f"{title}\n{len(found.errors)} tasks".strip(), width=6.5)
    return figure


def _law(abc: np.ndarray, shots: np.ndarray) -> np.ndarray:
    """The errors of some laws ``(R, 3)`` for some shots, ``(R, K)``."""
    a, b, c = abc.T[..., None]
    return np.asarray(a + b * shots**-c)
