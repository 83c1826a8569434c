"""Gradients multiplied by a learned matrix that is a Kronecker product."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mltk.optim.transforms.mode_products import ModeProducts


@dataclass(frozen=True)
class Kronecker(ModeProducts):
    r"""A learned linear map of each gradient, as a Kronecker product (KFO: Arnold, Iqbal & Sha 2021).

    The gradient $G$ of a matrix of $m \times n$, its rows one after the other, is multiplied by
    $A \otimes B$, with $m^2 + n^2$ numbers in place of $m^2 n^2$:

    $$D = A G B^\top, \qquad \bar G = A^\top \bar D B, \qquad \bar A = \bar D (G B^\top)^\top, \qquad
      \bar B = (A^\top \bar D)^\top G.$$

    A tensor of more axes is seen as the matrix of its first axis by all others, as in learn2learn
    (`MetaCurvature` has far fewer numbers for convolutions), and a vector as $m \times 1$ without $B$. The
    learned arrays have the name of the parameter with ``.left`` ($A$) or ``.right`` ($B$) behind; both start
    as identities.
    """

    def factors(self, shape: tuple[int, ...]) -> dict[str, int]:
        rows, *columns = shape or (1,)
        return {"left": rows, "right": math.prod(columns)} if columns else {"left": rows}
