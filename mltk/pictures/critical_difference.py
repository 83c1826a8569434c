"""Mean ranks over datasets, with bars that join what is not found to differ (Demšar 2006, figure 1)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mltk.evaluation.over_datasets import Ranking
from mltk.pictures.figure import BLACK, BLUE, VERMILLION, AnyPath, check_result, drawn, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 0.24
"""Inches between two names, and between two bars."""


def critical_difference(ranking: Ranking, path: AnyPath) -> None:
    """Write `critical_difference_figure` to an SVG file.

    Raises:
        RunError: If the file cannot be written.
        MissingLibraryError: If matplotlib is not installed.
    """
    save(critical_difference_figure(ranking), path)


def critical_difference_figure(ranking: Ranking) -> Figure:
    """Mean ranks on a line, the best at the left; thick bars join what is not found to differ.

    Args:
        ranking: As from `mltk.evaluation.rank_over_datasets`.

    Raises:
        MissingLibraryError: If matplotlib is not installed.
    """
    check_result("ranking", ranking, Ranking, "mltk.evaluation.rank_over_datasets(...)")
    order = np.argsort(ranking.ranks, kind="stable")
    count, groups = len(order), ranking.groups
    left = math.ceil(count / 2)
    bars, rows = len(groups), left
    height = ROW * (bars + rows + 5)
    with drawn(7.5, height) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))  # long names make the picture wider, not its parts smaller
        axes.axis("off")
        axes.set_xlim(1 - 0.45 * (count - 1), count + 0.45 * (count - 1))
        axes.set_ylim(-(bars + rows + 1), 3.5)
        axes.plot([1, count], [0, 0], color=BLACK, linewidth=1)
        for tick in range(1, count + 1):
            numbered = (tick - 1) % math.ceil(count / 15) == 0  # as many as have room side by side
            axes.plot([tick, tick], [0, 0.25 if numbered else 0.15], color=BLACK, linewidth=1)
            if numbered:
                axes.text(tick, 0.4, str(tick), ha="center", va="bottom", fontsize=9)
        _ruler(axes, ranking, count)
        for number, group in enumerate(groups):
            ends = [float(ranking.ranks[ranking.names.index(each)]) for each in (group[0], group[-1])]
            reach, height = 0.006 * (count - 1), -0.5 - number
            axes.plot([ends[0] - reach, ends[1] + reach], [height] * 2, color=VERMILLION, linewidth=4)
        for place, learner in enumerate(order):
            rank = float(ranking.ranks[learner])
            at_left = place < left
            row = -(bars + 1 + (place if at_left else count - 1 - place))
            edge = 1 - 0.06 * (count - 1) if at_left else count + 0.06 * (count - 1)
            axes.plot([rank, rank, edge], [0, row, row], color=BLUE, linewidth=1)
            name = (
                f"{ranking.names[learner]}\u2002{rank:.2f}"
                if at_left
                else f"{rank:.2f}\u2002{ranking.names[learner]}"
            )
            shift = -1 if at_left else 1
            axes.text(
                edge + shift * 0.01 * (count - 1), row, name,
                ha="right" if at_left else "left", va="center", fontsize=10,
            )  # fmt: skip
        axes.set_title(
            f"Mean ranks over {ranking.datasets} datasets; no difference is found where a bar is shared",
            fontsize=10,
        )
    return figure


def _ruler(axes: Axes, ranking: Ranking, count: int) -> None:
    """How long the critical difference is."""
    end = 1 + min(ranking.critical_difference, count - 1)
    axes.plot([1, end], [1.9, 1.9], color=VERMILLION, linewidth=2)
    text = f"critical difference {ranking.critical_difference:.2f}"
    if ranking.critical_difference > count - 1:
        text += ", longer than the line"
    axes.text((1 + end) / 2, 2.1, text, ha="center", va="bottom", fontsize=9)
