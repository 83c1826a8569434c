"""What a memory of each source of tasks is worth on every other, as a matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mltk.arguments import numbers
from mltk.errors import SettingError
from mltk.pictures.figure import BLUE, VERMILLION, AnyPath, drawn, save, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WRITTEN = 12
"""Up to so many names each number is written in its field."""


def transfer_matrix(
    gains: Any,
    names: Sequence[str],
    path: AnyPath,
    *,
    low: Any = None,
    high: Any = None,
    label: str = "gain",
    title: str = "",
) -> None:
    """Write the picture that `transfer_matrix_figure` makes as an SVG file.

    Args:
        gains: What is shown, ``(n, n)``: on the tasks of a column, from a memory of a row.
        names: Of both, ``n``.
        path: The file; its folder must exist. It is replaced in one go.
        low: Where the intervals begin.
        high: Where they end: what does not hold zero is framed.
        label: What the numbers are.
        title: Of which learner.
    """
    save(transfer_matrix_figure(gains, names, low=low, high=high, label=label, title=title), path)


def transfer_matrix_figure(
    gains: Any,
    names: Sequence[str],
    *,
    low: Any = None,
    high: Any = None,
    label: str = "gain",
    title: str = "",
) -> Figure:
    """A field for each pair, blue above zero and red below, and a frame where that is no chance.

    Args:
        gains: As in `transfer_matrix`.
        names: Likewise, as are the others.
        low: Where the intervals begin.
        high: Where they end.
        label: What the numbers are.
        title: Of which learner.

    Raises:
        SettingError: If there are no names, or one of ``low`` and ``high`` is given alone.
        ShapeError: If an array is not ``(n, n)``.
        NotFiniteError: If a number is NaN or infinite.
        MissingLibraryError: If matplotlib is not installed.
    """
    names = list(names)
    if not names or (low is None) != (high is None):
        raise SettingError("names is empty, or one of low and high is given alone; expected names, and both")
    values = numbers("gains", gains, len(names), len(names))
    sure = np.zeros(values.shape, bool)
    if low is not None:
        ends = [numbers(name, each, *values.shape) for name, each in (("low", low), ("high", high))]
        sure = (ends[0] > 0) | (ends[1] < 0)
    side = 2.6 + 0.42 * len(names)
    with drawn(side + 1.4, side) as figure:
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.patches import Rectangle

        colours = LinearSegmentedColormap.from_list("gain", [VERMILLION, "#FFFFFF", BLUE])
        axes = figure.add_subplot()
        axes.grid(False)
        most = float(np.abs(values).max()) or 1.0
        shown = axes.imshow(values, cmap=colours, vmin=-most, vmax=most)
        for row, column in np.argwhere(sure).tolist():
            place = (column - 0.46, row - 0.46)
            axes.add_patch(Rectangle(place, 0.92, 0.92, fill=False, edgecolor="black", linewidth=0.9))
        if len(names) <= WRITTEN:
            digits = int(np.clip(2 - np.floor(np.log10(most)), 1, 4))
            for (row, column), value in np.ndenumerate(values):
                colour = "white" if abs(value) > 0.7 * most else "black"
                text = f"{value:+.{digits}f}".replace("-", "−")
                axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set_xlabel("tasks of")
        axes.set_ylabel("memory of")
        framed = " (framed: 95 % interval without zero)" if sure.any() else ""
        figure.colorbar(shown, ax=axes, label=f"{label}{framed}", shrink=0.8)
        if title:
            titled(axes, title, width=side)
    return figure
