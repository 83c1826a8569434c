"""Attention: a mean of values, weighted by how well their keys fit a query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mltk.checks import Checked, Positive
from mltk.errors import ShapeError
from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Operation, Pulled, Tangent, unfit
from mltk.tree import Array, Tree


class Attended(NamedTuple):
    """What the derivatives need: the queries, their weights of the values, and the outputs."""

    x: Array
    weights: Array
    y: Array


@dataclass(frozen=True)
class Attention(Checked, Operation):
    r"""Dot-product attention (Vaswani et al. 2017, eq. 1): $y = A V$ with $A = \operatorname{softmax}(S)$.

    The scores are $S = \alpha x K^\top$ and the softmax runs over the keys. Write
    $P g = g - \langle A, g \rangle$ for each query (a row), so that $\dot A = A \odot P \dot S$ and
    $\bar S = A \odot P \bar A$:

    $$\dot S = \alpha (\dot x K^\top + x \dot K^\top), \qquad \dot y = \dot A V + A \dot V,$$

    $$\bar V = A^\top \bar y, \quad \bar A = \bar y V^\top, \quad \bar x = \alpha \bar S K, \quad
      \bar K = \alpha \bar S^\top x,$$

    where $\langle A, \bar A \rangle = \langle y, \bar y \rangle$. The tangent of the pullback:

    $$\dot{\bar V} = \dot A^\top \bar y + A^\top \dot{\bar y}, \qquad
      \dot{\bar A} = \dot{\bar y} V^\top + \bar y \dot V^\top, \qquad
      \dot{\bar S} = \dot A \odot P \bar A + A \odot (P \dot{\bar A} - \langle \dot A, \bar A \rangle),$$

    $$\dot{\bar x} = \alpha (\dot{\bar S} K + \bar S \dot K), \qquad
      \dot{\bar K} = \alpha (\dot{\bar S}^\top x + \bar S^\top \dot x).$$

    Inputs are the queries ``(..., M, d)``. ``p`` holds ``keys`` $K$ ``(..., N, d)`` and ``values`` $V$
    ``(..., N, e)``, which are data from elsewhere and not parameters of its own, but get cotangents. Output
    ``(..., M, e)``. The largest score of a query is subtracted from all of them, so that nothing overflows.

    Attributes:
        scale: The factor $\alpha$ of the scores; $1 / \sqrt d$ in transformers.
    """

    scale: Positive = 1.0

    def forward(self, p: Tree, x: Array) -> tuple[Array, Attended]:
        keys, values = p["keys"], p["values"]
        if x.ndim < 2:
            raise unfit(self, x, "d")
        if keys.ndim < 2 or keys.shape[-1] != x.shape[-1]:
            raise ShapeError(
                f"the keys of Attention have shape {tuple(keys.shape)}; expected (..., N, {x.shape[-1]}), "
                f"for queries {tuple(x.shape)}"
            )
        if values.ndim < 2 or values.shape[-2] != keys.shape[-2]:
            raise ShapeError(
                f"the values of Attention have shape {tuple(values.shape)}; "
                f"expected (..., {keys.shape[-2]}, e), for keys {tuple(keys.shape)}"
            )
        xp = kernels_of(x).xp
        scores = self.scale * (x @ keys.mT)
        exponentials = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
        weights = exponentials / xp.sum(exponentials, axis=-1, keepdims=True)
        y = weights @ values
        return y, Attended(x, weights, y)

    def jvp(self, p: Tree, res: Attended, dp: Tree, dx: Array | None) -> Array:
        return self._weights_tangent(p, res, dp, dx) @ p["values"] + res.weights @ dp["values"]

    def vjp(self, p: Tree, res: Attended, gy: Array, *, wrt_input: bool = True) -> Pulled:
        gscores = self.scale * res.weights * self._projected(p, res, gy)
        gp = {"keys": gscores.mT @ res.x, "values": res.weights.mT @ gy}
        return gp, kernels_of(gy).product(gscores, p["keys"]) if wrt_input else None

    def jvp_of_vjp(self, p: Tree, res: Attended, gy: Array, d: Tangent, *, wrt_input: bool = True) -> Pulled:
        dweights = self._weights_tangent(p, res, d.p, d.x)
        projected = self._projected(p, res, gy)
        gscores = self.scale * res.weights * projected
        # P is blind to a constant in each row, so P(ȳVᵀ) serves for ȳVᵀ in ⟨Ȧ, Ā⟩: the rows of Ȧ sum to zero.
        moved = self._projected(p, res, d.gy) + self._centred(res.weights, gy @ d.p["values"].mT)
        moved -= _row_sums(dweights * projected)
        dgscores = self.scale * (dweights * projected + res.weights * moved)
        dgp = {"keys": dgscores.mT @ res.x, "values": dweights.mT @ gy + res.weights.mT @ d.gy}
        if d.x is not None:
            dgp["keys"] += gscores.mT @ d.x
        if not wrt_input:
            return dgp, None
        return dgp, dgscores @ p["keys"] + gscores @ d.p["keys"]

    def _weights_tangent(self, p: Tree, res: Attended, dp: Tree, dx: Array | None) -> Array:
        dscores = res.x @ dp["keys"].mT
        if dx is not None:
            dscores += dx @ p["keys"].mT
        return self.scale * res.weights * self._centred(res.weights, dscores)

    def _projected(self, p: Tree, res: Attended, gy: Array) -> Array:
        """``P (gy Vᵀ)``, whose weighted mean is ``⟨y, gy⟩``."""
        return gy @ p["values"].mT - _row_sums(res.y * gy)

    def _centred(self, weights: Array, g: Array) -> Array:
        """``P g``: without its weighted mean."""
        return g - _row_sums(weights * g)


def _row_sums(values: Array) -> Array:
    return kernels_of(values).xp.sum(values, axis=-1, keepdims=True)
