"""How an A/B test came to its decision: the estimate with its band, and the evidence, task by task."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mltk.evaluation.ab_test import ABResult
from mltk.pictures.figure import BLACK, BLUE, GREY, VERMILLION, AnyPath, check_result, drawn, save, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALE = "#BFDBEC"
"""Of the band: `BLUE` on paper, a quarter of it."""

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def confidence_sequence(result: ABResult, path: AnyPath) -> None:
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
    check_result("result", result, ABResult, "mltk.ABTest(...).run()")
    times = np.arange(1, result.tasks + 1)
    # What is measured in points is an accuracy.
    scale, unit = (100, "points of accuracy") if result.metric == "accuracy" else (1, result.metric)
    known = np.isfinite(result.low)
    marker = "o" if result.tasks == 1 else ""
    with drawn(7, 6) as figure:
        from matplotlib.ticker import MaxNLocator

        upper, lower = figure.subplots(2, sharex=True, height_ratios=[3, 2])
        means = scale * np.cumsum(result.differences) / times
        band = [scale * each[known] for each in (result.low, result.high)]
        upper.axhspan(-scale * result.margin, scale * result.margin, color=GREY, alpha=0.4, label="margin")
        upper.axhline(0, color=BLACK, linewidth=0.6, linestyle=":")
        slim = known.sum() == 1 or np.array_equal(*band)  # without an edge it could not be seen
        edge = 6 if slim else 1
        label = "confidence sequence" if known.any() else None
        upper.fill_between(times[known], *band, color=PALE, linewidth=edge, zorder=0.5, label=label)
        upper.plot(times, means, color=BLACK, linewidth=1.2, marker=marker, label="mean difference")
        ends = np.concatenate([*band, means[-1:], [-scale * result.margin, scale * result.margin]])
        room = 0.1 * (ends.max() - ends.min()) or 1.0
        upper.set_ylim(ends.min() - room, ends.max() + room)
        upper.set_ylabel(f"difference in\n{unit}")
        titled(upper, str(result), width=6, size=10)
        powers = result.log_evidence / math.log(10)
        for column, (colour, dashes) in enumerate(((BLUE, "-"), (VERMILLION, "--"))):
            label = f"evidence that {result.names[column]} is better"
            lower.plot(times, powers[:, column], dashes, color=colour, marker=marker, label=label)
        decisive = math.log10(2 / result.alpha)
        label = f"evidence that decides, {2 / result.alpha:g}"
        lower.axhline(decisive, color=BLACK, linestyle=":", linewidth=1.2, label=label)
        lower.set_ylim(max(powers.min(), -6) - 0.3, max(powers.max(), decisive) + 0.7)
        lower.yaxis.set_major_locator(MaxNLocator("auto", integer=True))
        lower.yaxis.set_major_formatter(lambda power, _: "10" + f"{power:g}".translate(SUPERSCRIPTS))
        lower.set_ylabel("evidence")
        lower.set_xlim(0, result.tasks + 1)
        lower.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        lower.set_xlabel("tasks")
    return figure
