"""Labels as one-hot numbers: the one place where labels become something to calculate with."""

from __future__ import annotations

from mltk.ops.kernels import kernels_of
from mltk.tree import Array


def one_hot(labels: Array, ways: int, like: Array) -> Array:
    """Labels ``(...)`` of any integer dtype as numbers ``(..., ways)`` of the dtype of ``like``.

    The labels are compared in 64 bits: in eight, class 256 would be class 0, and some unsigned integers of
    Torch cannot be compared at all. A label outside ``0..ways-1`` has no one among its numbers.
    """
    xp = kernels_of(labels).xp
    classes = xp.arange(ways, dtype=xp.int64, device=labels.device)
    return xp.astype(xp.astype(labels, xp.int64, copy=False)[..., None] == classes, like.dtype)
