"""The reliability diagram: how often predictions are right, by how sure they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mltk.evaluation.reliability import Reliability
from mltk.pictures.figure import BLACK, BLUE, GREY, VERMILLION, AnyPath, check_result, drawn, save, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def reliability_picture(bins: Reliability, path: AnyPath, *, title: str = "") -> None:
    """Write the accuracy of predictions by their confidence as an SVG file.

    Args:
        bins: As from `mltk.evaluation.reliability`, or the ``bins`` of a calibration.
        path: The file; its folder must exist. It is replaced in one go.
        title: Which learner, on which tasks.
    """
    save(reliability_figure(bins, title=title), path)


def reliability_figure(bins: Reliability, *, title: str = "") -> Figure:
    """The picture that `reliability_picture` writes."""
    check_result("bins", bins, Reliability, "mltk.evaluation.reliability(...)")
    x, y = 100 * bins.confidence, 100 * bins.accuracy
    with drawn(5.6, 6.2) as figure:
        axes, below = figure.subplots(2, sharex=True, height_ratios=[4, 1])
        axes.plot([0, 100], [0, 100], color=GREY, linewidth=1)
        low, high = 100 * bins.calibrated_low, 100 * bins.calibrated_high
        axes.vlines(x, low, high, color=GREY, linewidth=7, label="95 % of calibrated predictions")
        axes.vlines(x, x, y, color=VERMILLION, linewidth=2, label="gap")
        axes.plot(x, y, "o-", color=BLUE, linewidth=1, markersize=5, label="accuracy of a bin")
        axes.set_ylabel("accuracy in %")
        axes.set_ylim(-2, 102)
        below.vlines(x, 0, bins.counts, color=BLACK, linewidth=3)
        below.set_ylim(0, None)
        below.set_ylabel("predictions")
        below.set_xlabel("confidence in %")
        below.set_xlim(min(-2 + np.floor(x.min() / 10) * 10, 90), 102)
        told = f"ECE {100 * bins.ece:.2f} %; calibrated: {100 * bins.calibrated_ece:.2f} %"
        titled(axes, f"{title}\n{told}" if title else told, width=5.6)
    return figure
