"""Clipping of gradients with a task axis, as Torch does it."""

from __future__ import annotations

import numpy as np

from mltk.oracle.definitions.inner_loop_knobs import ClipKind
from mltk.oracle.definitions.tensor import Tensor, constant, where

TORCH_EPS = 1e-6
"""What Torch adds to a norm before it divides by it."""


def clipped(kind: ClipKind, limit: float, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of a limited norm for each task, of all parameters together, or of limited values."""
    if kind == "value":
        return {
            name: where(np.abs(g.value) < limit, g, constant(np.clip(g.value, -limit, limit), like=g))
            for name, g in gradients.items()
        }
    squares = [(g * g).sum(tuple(range(1, g.ndim))) for g in gradients.values()]
    square = squares[0]
    for each in squares[1:]:
        square = square + each
    positive = square.value > 0
    norm = where(positive, where(positive, square, 1).sqrt(), 0) + TORCH_EPS
    factor = where(norm.value > limit, limit / norm, 1)
    factor = factor.detach() if kind == "norm as constant" else factor
    return {name: factor.reshape((-1, *[1] * (g.ndim - 1))) * g for name, g in gradients.items()}
