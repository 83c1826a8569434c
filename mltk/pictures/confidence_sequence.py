"""How an A/B test came to its decision: the estimate with its band, and the evidence, task by task."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import numpy as np

from mltk.evaluation.ab_test import ABResult
from mltk.pictures.figure import BLACK, BLUE, GREY, VERMILLION, blank_figure, plain_style, save, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def confidence_sequence(result: ABResult, path: str | os.PathLike[str]) -> None:
    """Write `confidence_sequence_figure` to an SVG file.

    Raises:
        RunError: If the file cannot be written.
        MissingLibraryError: If matplotlib is not installed.
    """
    save(confidence_sequence_figure(result), path)


def confidence_sequence_figure(result: ABResult) -> Figure:
    """The mean difference with its confidence sequence and the margin; below, the evidence for either.

    Args:
        result: As from `mltk.ABTest`.

    Raises:
        MissingLibraryError: If matplotlib is not installed.
    """
    times = np.arange(1, result.tasks + 1)
    # What is measured in points is an accuracy.
    scale, unit = (100, "points of accuracy") if result.metric == "accuracy" else (1, result.metric)
    known = np.isfinite(result.low)
    with plain_style():
        figure = blank_figure(7, 5.5)
        upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 2])
        means = scale * np.cumsum(result.differences) / times
        band = [scale * each[known] for each in (result.low, result.high)]
        upper.axhspan(-scale * result.margin, scale * result.margin, color=GREY, alpha=0.4, label="margin")
        upper.axhline(0, color=BLACK, linewidth=0.8)
        upper.fill_between(times[known], *band, color=BLUE, alpha=0.25, label="confidence sequence")
        upper.plot(times, means, color=BLUE, label="mean difference")
        ends = np.concatenate([*band, means[-1:], [-scale * result.margin, scale * result.margin]])
        room = 0.1 * (ends.max() - ends.min()) or 1.0
        upper.set_ylim(ends.min() - room, ends.max() + room)
        upper.set_ylabel(f"{' − '.join(result.names)}\nin {unit}")
        upper.legend(loc="upper right", fontsize=9)
        titled(upper, str(result), width=6, size=10)
        for column, colour in enumerate((BLUE, VERMILLION)):
            label = f"{result.names[column]} is better"
            lower.plot(times, result.log_evidence[:, column] / math.log(10), color=colour, label=label)
        lower.axhline(math.log10(2 / result.alpha), color=BLACK, linestyle="--", linewidth=1)
        lower.text(
            1, math.log10(2 / result.alpha), f" decided at {2 / result.alpha:g}", va="bottom", fontsize=9
        )
        lowest = max(float(result.log_evidence.min()) / math.log(10), -6)
        lower.set_ylim(
            lowest - 0.3,
            max(float(result.log_evidence.max()) / math.log(10), math.log10(2 / result.alpha)) + 0.7,
        )
        lower.yaxis.set_major_formatter(lambda power, _: f"$10^{{{power:g}}}$")
        lower.yaxis.get_major_locator().set_params(integer=True)
        lower.set_ylabel("evidence")
        lower.set_xlabel("tasks")
        lower.legend(loc="lower left", fontsize=9)
    return figure
