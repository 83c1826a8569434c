"""Resizing by area averaging: each new pixel is the mean of the area that it covers."""

from __future__ import annotations

import numpy as np

CHUNK = 256
"""Images that are averaged at a time: few enough for the processor's cache."""


def area_weights(old: int, new: int) -> np.ndarray:
    r"""The matrix $A$ with which $A X A^\top$ is the image $X$ at another size.

    Measured in parts of which an old pixel has ``new`` and a new pixel has ``old``, new pixel $i$ covers
    $[i \cdot \text{old}, (i + 1) \text{old}]$ and old pixel $j$ covers
    $[j \cdot \text{new}, (j + 1) \text{new}]$. The weight $A_{ij}$ is the length that they share, divided by
    ``old``. Rows sum to 1, so constants stay; columns sum to ``new / old``, so the mean of an image stays.

    Args:
        old: Pixels along one side.
        new: Pixels wanted.

    Returns:
        ``old`` $\cdot\, A$, shape ``(new, old)``: whole numbers, in float32.
    """
    starts, pixels = np.arange(new)[:, None] * old, np.arange(old) * new
    shared = np.minimum(starts + old, pixels + new) - np.maximum(starts, pixels)
    return np.asarray(np.maximum(shared, 0).astype(np.float32))


def area_average(images: np.ndarray, size: int) -> np.ndarray:
    """Resize square images by area averaging.

    All sums are of whole numbers below 2²⁴, which float32 holds exactly, up to 256 × 256 old pixels. So each
    new pixel is the exact mean, rounded once, and the same on every machine.

    Args:
        images: ``(..., side, side)``, booleans or uint8.
        size: The new side.

    Returns:
        ``(..., size, size)`` float32: means of the values as they are, 0 and 1 for booleans.
    """
    side = images.shape[-1]
    flat = images.reshape(-1, side, side)
    averaged = np.empty((len(flat), size, size), np.float32)
    if size == side:
        averaged[:] = flat
    else:
        weights = area_weights(side, size)
        for start in range(0, len(flat), CHUNK):
            chunk = flat[start : start + CHUNK].reshape(-1, side).astype(np.float32)
            rows = (chunk @ weights.T).reshape(-1, side, size)
            np.matmul(weights, rows, out=averaged[start : start + CHUNK])
        averaged /= side**2
    return averaged.reshape(*images.shape[:-2], size, size)
