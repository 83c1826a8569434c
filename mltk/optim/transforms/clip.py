"""Clipping of the gradients of an inner loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mltk import tree
from mltk.checks import Checked, Positive
from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Residuals
from mltk.optim.transforms.gradient_transform import GradientTransform
from mltk.optim.transforms.granularity import along_tasks, inner_product
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class Clip(Checked, GradientTransform):
    r"""Gradients of a limited size, with nothing learned (Pascanu, Mikolov & Bengio 2013, algorithm 1).

    By norm, with the limit $\ell$ and the norm of all gradients of a task together,

    $$d = c \, g, \qquad c = \frac{\ell}{N}, \qquad N = \max(\lVert g \rVert, \ell), \qquad
      \bar g = c \left(\bar d - \frac{g}{N} \frac{\langle g, \bar d \rangle}{N}
      \, [\lVert g \rVert \ge \ell]\right):$$

    where it clips, what of $\bar d$ points along the gradient is lost. There is no $\epsilon$, because the
    maximum keeps the division finite. By value, $d = \min(\max(g, -\ell), \ell)$ and
    $\bar g = [\lvert g \rvert \le \ell] \, \bar d$. On the kinks the derivatives are Torch's: a norm equal to
    the limit counts as clipped, a value as not clipped.

    Gradients that are never larger than the limit are not changed; no setting makes this the identity.

    Attributes:
        limit: The largest norm, or absolute value, that is let through.
        by: ``"norm"`` or ``"value"``.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> transform = mltk.optim.transforms.Clip(1.0)
        >>> p = transform.init({"w": (2,)}, np.random.default_rng(0))
        >>> directions, _, _ = transform.forward(p, {"w": np.asarray([[3.0, 4.0]])}, {})  # of one task
        >>> directions["w"].round(3).tolist()
        [[0.6, 0.8]]
    """

    limit: Positive
    by: Literal["norm", "value"] = "norm"

    def forward(self, p: Tree, grads: Tree, state: Tree) -> tuple[Tree, Tree, Residuals]:
        if self.by == "value":
            return tree.map(self._clip, grads), {}, grads
        square = inner_product(grads, grads)
        xp = kernels_of(square).xp
        # At least the root of the smallest number: Torch's derivative of the root of 0 is infinite.
        norm = xp.sqrt(xp.clip(square, xp.finfo(square.dtype).smallest_normal, None))
        factor = self.limit / xp.clip(norm, self.limit, None)
        return tree.map(lambda g: along_tasks(factor, g) * g, grads), {}, (grads, norm, factor)

    def vjp(self, p: Tree, res: Residuals, g_directions: Tree, g_state: Tree) -> tuple[Tree, Tree, Tree]:
        if self.by == "value":
            return {}, tree.map(self._where_inside, res, g_directions), {}
        grads, norm, factor = res
        lost = inner_product(grads, g_directions) / norm / norm
        lost = kernels_of(norm).xp.where(norm >= self.limit, lost, 0)
        g_grads = tree.map(
            lambda g, gd: along_tasks(factor, g) * (gd - along_tasks(lost, g) * g), grads, g_directions
        )
        return {}, g_grads, {}

    def _clip(self, g: Array) -> Array:
        return kernels_of(g).xp.clip(g, -self.limit, self.limit)

    def _where_inside(self, g: Array, g_direction: Array) -> Array:
        xp = kernels_of(g).xp
        return xp.where(xp.abs(g) <= self.limit, g_direction, xp.zeros_like(g_direction))
