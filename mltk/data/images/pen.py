"""The pen: anti-aliased pictures of strokes."""

from __future__ import annotations

import math

import numpy as np

SPACING = 128 / 28
"""Points that a drawing is traced with, for each pixel of the image's side."""

FAR = np.float32(1e6)


def draw(paths: np.ndarray, radius: np.ndarray, image_size: int) -> np.ndarray:
    r"""Draw strokes with a round pen.

    A pixel whose centre is at a distance $d$ from the nearest stroke gets the ink
    $\min(\max(r + \frac12 - d, 0), 1)$, about the share of its area that a pen of radius $r$ blackens.
    Strokes are traced by points at equal spacing, about half a pixel.

    Args:
        paths: Points within the picture at equal spacing along each stroke, complex64 in pixels,
            ``(n, strokes, points)``.
        radius: $r$ in pixels, float32 ``(n,)``.
        image_size: Side of the pictures.

    Returns:
        Ink in [0, 1], float32 ``(n, image_size, image_size)``.
    """
    n = len(paths)
    traced = _trace(paths, round(SPACING * image_size))
    reach = float(radius.max()) + 0.5
    window = math.ceil(2 * reach)
    offsets = np.arange(window, dtype=np.float32)
    squares, pixels = [], []
    for coordinate in (traced.real, traced.imag):
        first = np.ceil(coordinate - np.float32(reach + 0.5))
        pixel = first[..., None] + offsets
        squares.append((pixel + np.float32(0.5) - coordinate[..., None]) ** 2)
        pixels.append(pixel.astype(np.intp) + window)
    side = image_size + 2 * window  # a margin, so that no window leaves the picture
    x, y = pixels
    place = y[..., None] * side + x[..., None, :] + (np.arange(n) * side**2)[:, None, None]
    distance = squares[1][..., None] + squares[0][..., None, :]
    place, distance = place.reshape(len(traced), -1), distance.reshape(len(traced), -1)
    nearest = np.full(n * side**2, FAR)
    # One point of all drawings at a time, so that no pixel is named twice.
    for pixels_of_point, squares_of_point in zip(place, distance, strict=True):
        nearest[pixels_of_point] = np.minimum(nearest[pixels_of_point], squares_of_point)
    inside = nearest.reshape(n, side, side)[:, window:-window, window:-window]
    return np.clip(radius[:, None, None] + np.float32(0.5) - np.sqrt(inside), 0, 1)


def _trace(paths: np.ndarray, count: int) -> np.ndarray:
    """Points at equal spacing along all strokes of a drawing, one after the other, ``(count, n)``."""
    pieces = paths.shape[-1] - 1
    lengths = np.abs(np.diff(paths, axis=-1)).sum(axis=-1)
    ends = np.cumsum(lengths, axis=-1)
    # A little less than the whole, since rounding could lead past the last stroke.
    at = np.linspace(0, 1 - 1e-6, count, dtype=np.float32)[:, None] * ends[:, -1]
    stroke = (at[..., None] >= ends[:, :-1]).sum(axis=-1)
    rows = np.arange(len(paths))
    start = (ends - lengths)[rows, stroke]
    along = (at - start) / np.maximum(lengths[rows, stroke], 1e-6) * pieces
    piece = np.clip(along.astype(np.intp), 0, pieces - 1)
    before, after = paths[rows, stroke, piece], paths[rows, stroke, piece + 1]
    share = (along - piece).astype(np.float32)
    return np.asarray(before + share * (after - before))
