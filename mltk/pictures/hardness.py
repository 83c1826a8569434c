"""Accuracy by hardness: the tasks, their means, and the fitted line with its band."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mltk.pictures.figure import BLACK, BLUE, VERMILLION, AnyPath, check_result, drawn, save, titled
from mltk.task_analysis.hardness_fit import HardnessFit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROUPS = 10
"""At most so many groups of equally many tasks have their mean shown; none is of fewer than ten tasks."""


def accuracy_by_hardness(fit: HardnessFit, path: AnyPath, *, title: str = "") -> None:
    """Write the accuracies of tasks by their hardness, with the fitted line, as an SVG file.

    Args:
        fit: As from `mltk.task_analysis.fit_by_hardness`.
        path: The file; its folder must exist. It is replaced in one go.
        title: Which learner, on which tasks.
    """
    save(accuracy_by_hardness_figure(fit, title=title), path)


def accuracy_by_hardness_figure(fit: HardnessFit, *, title: str = "") -> Figure:
    """The picture that `accuracy_by_hardness` writes."""
    check_result("fit", fit, HardnessFit, "mltk.task_analysis.fit_by_hardness(...)")
    x, y = fit.hardness, 100 * fit.accuracies
    with drawn(7.0, 4.6) as figure:
        axes = figure.add_subplot()
        axes.plot(x, y, "o", color=BLUE, alpha=0.4, markersize=4, markeredgewidth=0, label="a task")
        grid = np.linspace(x.min(), x.max(), 100)
        line, half = 100 * fit.line(grid), 100 * fit.band(grid)
        axes.fill_between(grid, line - half, line + half, color=VERMILLION, alpha=0.25, linewidth=0)
        axes.plot(grid, line, color=VERMILLION, linewidth=2, label="line, with its 95 % band")
        count = max(1, min(GROUPS, x.size // 10))
        groups = np.array_split(np.argsort(x, kind="stable"), count)
        means = [(x[group].mean(), y[group].mean()) for group in groups]
        label = f"mean of {_share(count)} of the tasks"
        axes.plot(*np.transpose(means), "D", color=BLACK, markersize=5, label=label)
        axes.set_xlabel("hardness Ω (log-odds against the right class)")
        axes.set_ylabel("accuracy in %")
        axes.set_ylim(min(y.min(), 0) if y.min() < 50 else None, 102)
        r, area = fit.correlation, fit.area
        ends = f", area {area.estimate:.0f} [{area.low:.0f}, {area.high:.0f}]"
        known = ends if math.isfinite(area.estimate) else ""
        told = f"r = {r.estimate:.2f} [{r.low:.2f}, {r.high:.2f}], {100 * fit.slope:.0f} points a unit{known}"
        titled(axes, f"{title}\n{told}" if title else told, width=7.0)
    return figure


def _share(count: int) -> str:
    return "all" if count == 1 else f"1/{count}"
