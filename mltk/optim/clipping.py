"""Clipping of gradients."""

from __future__ import annotations

from dataclasses import dataclass

from mltk import tree
from mltk.checks import Checked, Positive
from mltk.ops.kernels import kernels_of
from mltk.optim.updates import ravel
from mltk.tree import Tree


@dataclass(frozen=True)
class ClipByGlobalNorm(Checked):
    r"""Scale the gradients so that their joint Euclidean norm is at most ``max_norm``.

    Pascanu, Mikolov & Bengio (2013), algorithm 1. As in Torch, the factor is
    $\min(1, \text{max_norm} / (\lVert g \rVert + 10^{-6}))$.

    Attributes:
        max_norm: The largest norm that is let through.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> grads = {"w": np.asarray([3.0, 4.0])}
        >>> clipped, _ = mltk.optim.ClipByGlobalNorm(1.0).update(grads, {}, grads)
        >>> [round(float(number), 3) for number in clipped["w"]]
        [0.6, 0.8]
    """

    max_norm: Positive

    def init(self, params: Tree) -> Tree:
        """See `mltk.optim.Transform.init`; there is nothing to remember."""
        return {}

    def update(self, grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
        """See `mltk.optim.Transform.update`."""
        vector = ravel(grads, params)
        kernels = kernels_of(vector)
        norm = kernels.root(kernels.xp.sum(vector * vector))
        factor = kernels.xp.clip(self.max_norm / (norm + 1e-6), None, 1.0)
        return tree.map(lambda grad: factor * grad, grads), state
