"""Small random distortions of images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mltk.checks import Checked, NonNegative
from mltk.errors import SettingError, ShapeError

BLOCK = 2**16
"""Pixels that are distorted together: few enough that all that is computed on the way stays in the cache."""

LARGEST = 2**24
"""Pixels of an image with its frame: up to here their numbers are exact in float32."""


@dataclass(frozen=True, kw_only=True)
class Jitter(Checked):
    r"""A small random affine map of each image, as Koch, Zemel & Salakhutdinov (2015) distort drawings.

    An image is stretched along both axes, sheared along both, turned and moved, all about its centre: the
    point $x$ (right and down, in pixels from the centre) goes to

    $$R(\theta) \begin{pmatrix} 1 & a \\ b & 1 \end{pmatrix}
      \begin{pmatrix} e^s & 0 \\ 0 & e^t \end{pmatrix} x + c.$$

    The seven numbers are independent and uniform between plus and minus the strength.

    Attributes:
        rotation: Largest $|\theta|$, degrees.
        scale: Largest $|s|$ and $|t|$: the logarithm of a stretch.
        shear: Largest $|a|$ and $|b|$, less than 1.
        translation: Largest $|c|$ along each axis, pixels.

    Raises:
        SettingError: If a strength is negative or not finite, or the shear not less than 1.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> images = np.ones((2, 1, 28, 28), dtype="float32")
        >>> mltk.data.Jitter(rotation=5)(images, np.random.default_rng(0)).shape
        (2, 1, 28, 28)
    """

    rotation: NonNegative = 10.0
    scale: NonNegative = 0.1
    shear: NonNegative = 0.1
    translation: NonNegative = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shear >= 1:
            raise SettingError(
                f"shear is {self.shear!r}; expected less than 1, where an image becomes a line"
            )

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Distort each image by a map of its own.

        Args:
            images: float32 ``(N, C, H, W)``.
            rng: The generator to draw the maps with.

        Returns:
            The distorted images, of the same shape; pixels from outside are 0.

        Raises:
            ShapeError: If the images have other axes.
        """
        return affine(images, *self.maps(len(images), rng))

    def maps(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw maps for `affine`: matrices ``(count, 2, 2)`` and translations ``(count, 2)``, float64."""
        angle, s, t, a, b, right, down = rng.uniform(-1, 1, (7, count))
        angle *= math.radians(self.rotation)
        cosine, sine = np.cos(angle), np.sin(angle)
        rotation = np.stack([cosine, -sine, sine, cosine], axis=1).reshape(-1, 2, 2)
        one = np.ones(count)
        shear = np.stack([one, self.shear * a, self.shear * b, one], axis=1).reshape(-1, 2, 2)
        stretch = np.exp(self.scale * np.stack([s, t], axis=1))
        return (rotation @ shear) * stretch[:, None], self.translation * np.stack([right, down], axis=1)


def affine(images: np.ndarray, matrices: np.ndarray, translations: np.ndarray) -> np.ndarray:
    r"""Map each image by an affine map about its centre, with bilinear interpolation.

    What is at the point $x$ goes to $A x + c$, coordinates being pixels right of and below the centre. So
    an output pixel at $y$ takes the value of the input at $A^{-1} (y - c)$, between the four pixels around
    it. Outside the image all is 0.

    Args:
        images: float32 ``(N, C, H, W)``.
        matrices: $A$ of each image, ``(N, 2, 2)``, invertible.
        translations: $c$ of each image, ``(N, 2)``.

    Returns:
        The new images, of the same shape.

    Raises:
        ShapeError: If a shape is not as above.
    """
    if images.ndim != 4 or 0 in images.shape:
        raise ShapeError(f"images has shape {images.shape}; expected (N, C, H, W), not empty")
    count, _, height, width = images.shape
    if (height + 3) * (width + 3) > LARGEST:
        raise ShapeError(f"images has {height} by {width} pixels; expected at most {LARGEST} a channel")
    for name, array, shape in (("matrices", matrices, (2, 2)), ("translations", translations, (2,))):
        if array.shape != (count, *shape):
            raise ShapeError(
                f"{name} has shape {array.shape}; expected {(count, *shape)}, one for each image"
            )
    inverses = np.linalg.inv(matrices)
    origins = -(inverses @ translations[..., None])[..., 0]
    mapped = np.empty(images.shape, np.float32)
    step = max(1, BLOCK // (height * width))
    for start in range(0, count, step):
        block = slice(start, start + step)
        _resample(images[block], inverses[block], origins[block], mapped[block])
    return mapped


def _resample(images: np.ndarray, inverses: np.ndarray, origins: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` with values of the images at ``inverses`` times the place of a pixel, plus ``origins``."""
    count, channels, height, width = images.shape
    # A frame of zeros, one pixel before and two behind, stands for all that is outside.
    padded = np.zeros((channels, count, height + 3, width + 3), np.float32)
    padded[..., 1:-2, 1:-2] = images.swapaxes(0, 1)
    rows, columns = padded.shape[-2:]
    right, down = (np.arange(size) - (size - 1) / 2 for size in (width, height))

    def places(axis: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Where in the frame each pixel comes from along one axis, ``(N, H, W)``: whole part and fraction."""
        along_row = inverses[:, axis, :1] * right
        along_column = inverses[:, axis, 1:] * down + (origins[:, axis, None] + (size - 1) / 2 + 1)
        place = along_column.astype(np.float32)[:, :, None] + along_row.astype(np.float32)[:, None, :]
        np.clip(place, 0, size + 1, out=place)
        whole = np.floor(place)
        place -= whole
        return whole, place

    column, x = places(0, width)
    row, y = places(1, height)
    row *= columns
    row += column
    row += np.arange(0, padded[0].size, rows * columns, dtype=np.float32)[:, None, None]
    number = row.astype(np.intp)
    for channel in range(channels):
        flat = padded[channel].reshape(-1)
        above = _between(flat[number], flat[1:][number], x)
        below = _between(flat[columns:][number], flat[columns + 1 :][number], x)
        out[:, channel] = _between(above, below, y)


def _between(start: np.ndarray, end: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """Linear interpolation; it overwrites what it is given."""
    end -= start
    end *= fraction
    start += end
    return start
