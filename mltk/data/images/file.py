"""One image file as pixels, whatever its mode and depth: scaled by its own range, or refused by name.

Eight bits a channel are what they are. What is deeper, and grey, comes as numbers whose white nobody has
told: sensors write 12 bits into 16. So it stays a number until it is known what white is.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mltk.errors import DataError
from mltk.files import open_to_read

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What Pillow may read; it looks at the content. It knows more, some of it by starting other programs."""

WHITES = tuple(2**bits - 1 for bits in (8, 10, 12, 14, 16))
"""What may be white in deep images of integers, if nobody says what is: the largest number of some bits."""

PHOTOMETRIC, SAMPLE_FORMAT = 262, 339
"""Tags of TIFF files: whether 0 is white, and whether numbers have a sign."""


class Pixels(NamedTuple):
    """A square image.

    Attributes:
        values: ``(channels, size, size)``: uint8, or float32 for a deep image that is not scaled yet.
        highest: The largest number in the file of a deep image; ``None`` for eight bits.
        floating: Whether the numbers in the file of a deep image are floating.
    """

    values: np.ndarray
    highest: float | None = None
    floating: bool = False


def read_image(path: Path, size: int, channels: int, *, white: float | None = None) -> Pixels:
    """Read an image, turned as its EXIF orientation says, on white, cut to its middle square, and resized.

    Args:
        path: The file.
        size: Side of the image.
        channels: 3 or 1.
        white: The largest number that a deep image may hold; ``None`` for 1 if they are floating, and for
            that of 16 bits if they are integers.

    Raises:
        DataError: If what the numbers in the file mean is not known, or some are larger than white.
        OSError: If the file cannot be read, or is a pipe or a device.
        Exception: Whatever Pillow raises for files that are damaged or too large.
    """
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with open_to_read(path) as file, Image.open(file, formats=FORMATS) as opened:
            tags = getattr(opened, "tag_v2", {})
            sixteen = ";16" in str(opened.tile)  # loading the pixels clears it
            image = ImageOps.exif_transpose(opened)
    if image.mode.startswith(("I", "F")):
        return _deep(image, size, channels, white, inverted=tags.get(PHOTOMETRIC) == 0)
    if 2 in np.atleast_1d(tags.get(SAMPLE_FORMAT, 1)):
        raise DataError("its numbers have a sign; expected numbers of at least 0")
    image = on_white(image)
    if sixteen and image.mode == "RGB" and np.asarray(image).max() < 64:
        raise DataError(
            "it has 16 bits a channel and uses the lower ones alone, of which Pillow keeps the upper 8; "
            "save it with 8 bits"
        )
    if channels == 1:
        image = image.convert("L")
    return Pixels(_square(image, size, channels))


def scaled(images: Sequence[Pixels], white: Callable[[Pixels], float]) -> np.ndarray:
    """Images as uint8 ``(N, channels, size, size)``.

    Args:
        images: As read.
        white: What stands for white in a deep one.
    """
    found = np.empty((len(images), *images[0].values.shape), np.uint8)
    for place, pixels in enumerate(images):
        deep = pixels.highest is not None
        found[place] = np.rint(pixels.values * (255 / white(pixels))) if deep else pixels.values
    return found


def white_of(highest: float) -> int:
    """The largest number of the fewest bits that hold all numbers of deep images.

    Args:
        highest: The largest of these numbers, at most that of 16 bits.
    """
    return next(white for white in WHITES if highest <= white)


def on_white(image: Image.Image) -> Image.Image:
    """An image of eight bits as grey or RGB, on white paper where it is transparent.

    Raises:
        ValueError: For colours that Pillow cannot convert (LAB, in some versions).
    """
    from PIL import Image

    # Pillow takes the alpha out of the colours first, and knows no other way.
    image = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _deep(image: Image.Image, size: int, channels: int, white: float | None, *, inverted: bool) -> Pixels:
    """Grey with more than eight bits: numbers that are not scaled yet."""
    from PIL import Image

    kind = f"its pixels are numbers of mode {image.mode}"
    if inverted or "transparency" in image.info:
        raise DataError(
            f"{kind} with {'0 as white' if inverted else 'a transparent one'}; expected plain grey"
        )
    numbers = np.asarray(image)
    if not np.isfinite(numbers).all() or numbers.min() < 0:
        raise DataError(f"{kind}, and some are negative or not finite; expected numbers of at least 0")
    floating = numbers.dtype.kind == "f"
    most, highest = white or (1 if floating else WHITES[-1]), float(numbers.max())
    if highest > most:
        raise DataError(f"{kind} up to {highest:g}; expected at most {most:g} (white=… says what white is)")
    return Pixels(_square(Image.fromarray(numbers.astype(np.float32)), size, channels), highest, floating)


def _square(image: Image.Image, size: int, channels: int) -> np.ndarray:
    """The square in the middle, resized, ``(channels, size, size)``; grey is the same in all channels."""
    from PIL import Image

    side = min(image.size)
    left, upper = ((length - side) // 2 for length in image.size)
    square = image.crop((left, upper, left + side, upper + side))
    pixels = np.atleast_3d(np.asarray(square.resize((size, size), Image.Resampling.BILINEAR)))
    return np.broadcast_to(pixels.transpose(2, 0, 1), (channels, size, size))
