"""What all pictures share: a figure, its style and titles, and how it is written as SVG.

A picture is built as a `matplotlib.figure.Figure` (``*_figure``), which can be inspected or changed, and then
written by `save`. Global state of matplotlib is neither used nor changed, and the same data gives the same
bytes. Colours are those of Okabe & Ito (2008), which colour-blind readers can tell apart.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mltk.errors import SettingError
from mltk.files import AnyPath as AnyPath
from mltk.files import replace_file
from mltk.installation import needed_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
BLACK, GREY = "#000000", "#BBBBBB"


def save(figure: Figure, path: AnyPath) -> None:
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


def blank_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches."""
    with needed_for("pictures"):
        from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def check_result(name: str, value: Any, kind: type, example: str) -> None:
    """Raise `SettingError` unless this is the result that a picture shows."""
    if not isinstance(value, kind):
        raise SettingError(f"{name} is {type(value).__name__}; expected {kind.__name__}, as from {example}")


def titled(axes: Axes, title: str, *, width: float, size: float = 11) -> None:
    """Give a panel of a width in inches a title, in lines that are not wider than it."""
    letters = int(120 * width / size)  # a letter is 0.6 times as wide as high
    lines = [line for given in title.split("\n") for line in textwrap.wrap(given, letters)]
    axes.set_title("\n".join(lines), fontsize=size)


def legend_below(figure: Figure) -> None:
    """A legend of all panels under them, in as many columns as fit; the figure grows by its rows."""
    pairs = (zip(*axes.get_legend_handles_labels(), strict=True) for axes in figure.axes)
    found = {label: handle for panel in pairs for handle, label in panel}
    if not found:
        return
    labels, handles = list(found), list(found.values())
    column = 0.6 + 0.085 * max(map(len, labels))  # inches
    columns = max(1, min(len(labels), int(figure.get_figwidth() / column)))
    figure.set_figheight(figure.get_figheight() + 0.22 * (math.ceil(len(labels) / columns) - 1))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


@contextmanager
def drawn(width: float, height: float) -> Iterator[Figure]:
    """A figure to draw on in the plain style; the legend of all of it comes below.

    Args:
        width: In inches.
        height: Likewise.

    Raises:
        MissingLibraryError: If matplotlib is not installed.
    """
    with plain_style():
        figure = blank_figure(width, height)
        yield figure
        legend_below(figure)


@contextmanager
def plain_style() -> Iterator[None]:
    """Matplotlib's own defaults with a light grid, whatever the user's settings are."""
    with needed_for("pictures"):
        import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "axes.grid": True,
                "grid.alpha": 0.25,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "svg.fonttype": "none",  # text stays text, which can be searched, copied and read aloud
                "text.parse_math": False,  # a name with dollars is no formula
            }
        )
        yield
