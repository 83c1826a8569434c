"""Pictures inside a page: SVG whose text is text and whose names are its own, and small images."""

from __future__ import annotations

import base64
import html
import io
import re
from threading import RLock
from typing import TYPE_CHECKING, Any

import numpy as np

from mltk.pictures.figure import plain_style
from mltk.toolkit.report.markup import Html, tag

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = (4.8, 3.5)
"""Inches of a picture: its text can be read on a telephone, and two fit side by side elsewhere."""

SIDE = 64
"""Pixels of the longer side of an image, at most."""

DRAWING = RLock()
"""Matplotlib's settings are those of the process: one thread at a time draws."""


def inline(figure: Figure, key: str, about: str, *, size: tuple[float, float] = SIZE) -> Html:
    """A figure of `mltk.pictures` as an element of a page; its titles become the caption.

    Args:
        figure: Of Matplotlib; it is changed.
        key: What its names begin with: no other picture of the page has it.
        about: What is seen, for who does not see it.
        size: In inches.
    """
    import matplotlib

    titles = [" ".join(axes.get_title().split()) for axes in figure.axes if axes.get_title()]
    for axes in figure.axes:
        axes.set_title("")
    for legend in figure.legends:
        legend.set_frame_on(False)
    figure.set_size_inches(*size)
    content = io.StringIO()
    with DRAWING, plain_style(), matplotlib.rc_context({"svg.hashsalt": "mltk"}):
        figure.savefig(content, format="svg", metadata={"Date": None}, transparent=True)
    svg = content.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.S)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'\bid="', f'id="{key}-', svg)
    svg = re.sub(r'url\(#|(xlink:)?href="#', lambda found: found[0].replace("xlink:", "") + f"{key}-", svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(about)}"', 1)
    return tag("figure", Html(svg), tag("figcaption", ". ".join(titles) or about), class_="picture")


def thumbnail(image: np.ndarray, about: str) -> Html:
    """An image ``(1 or 3, H, W)`` in [0, 1] as an element of a page; grey ones are ink on paper, 1 is ink.

    Args:
        image: The image.
        about: What it shows, for who does not see it.
    """
    from PIL import Image

    grey = len(image) == 1
    pixels = np.clip(np.rint(255 * (1 - image[0] if grey else np.moveaxis(image, 0, -1))), 0, 255)
    picture = Image.fromarray(pixels.astype(np.uint8))
    picture.thumbnail((SIDE, SIDE))
    content = io.BytesIO()
    settings: dict[str, Any] = {"optimize": True} if grey else {"quality": 85}
    picture.save(content, "PNG" if grey else "JPEG", **settings)
    kind = "png" if grey else "jpeg"
    source = f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
    ink = "ink" if grey else None
    return tag("img", src=source, alt=about, class_=ink, width="40", height="40")


def bar(low: float, estimate: float, high: float, scale: tuple[float, float], about: str) -> Html:
    """An interval with its estimate, drawn on a scale that the rows of a table share."""
    least, most = scale
    left, middle, right = (100 * (each - least) / ((most - least) or 1) for each in (low, estimate, high))
    marks = (
        f'<line x1="{left:.2f}" x2="{right:.2f}" y1="6" y2="6"/><circle cx="{middle:.2f}" cy="6" r="3"/>'
        if np.isfinite([left, right]).all()
        else ""
    )
    return tag("svg", Html(marks), class_="bar", viewBox="-4 0 108 12", role="img", aria_label=about)
