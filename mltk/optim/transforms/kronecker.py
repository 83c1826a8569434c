"""Gradients multiplied by a learned matrix that is a Kronecker product."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mltk.optim.transforms.mode_products import ALIKE, ModeProducts


@dataclass(frozen=True)
class Kronecker(ModeProducts):
    r"""A learned linear map of each gradient, as a Kronecker product (KFO: Arnold, Iqbal & Sha 2021).

    The gradient $G$ of a matrix of $m \times n$, its rows one after the other, is multiplied by
    $A \otimes B$, with $m^2 + n^2$ numbers in place of $m^2 n^2$:

    $$D = A G B^\top, \qquad \bar G = A^\top \bar D B, \qquad \bar A = \bar D (G B^\top)^\top, \qquad
      \bar B = (A^\top \bar D)^\top G.$$

    Of a tensor with more axes, each filter is such a matrix, of input channels by pixels, and all filters
    share $A$ and $B$, as in the authors' learn2learn: a single matrix of all axes but the first would have
    more numbers than the tensor itself. A vector is a matrix of $m \times 1$ without $B$. The learned arrays
    have the name of the parameter with ``.left`` ($A$) or ``.right`` ($B$) behind; both start as identities.

    Examples:
        >>> import mltk
        >>> transform = mltk.optim.transforms.Kronecker()
        >>> sorted(transform.shapes({"w": (3, 2)}).items())
        [('w.left', (3, 3)), ('w.right', (2, 2))]
    """

    def axes(self, shape: tuple[int, ...]) -> dict[str, int]:
        if len(shape) < 2:
            return {"left": shape[0] if shape else 1}
        if len(shape) == 2:
            return {"left": shape[0], "right": shape[1]}
        return {ALIKE: shape[0], "left": shape[1], "right": math.prod(shape[2:])}
