"""Batch norms and losses that mistakes take instead: their values alone, differentiated automatically."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from mltk import ops
from mltk.ops.operation import Residuals, Tangent
from mltk.oracle.exact.tensor import Tensor, double, grad, jvp
from mltk.tree import Array, Tree

NormKind = Literal["unbiased", "detached", "detached variance", "epsilon beside the root"]


class Traced(NamedTuple):
    """A value with what it was computed from.

    Attributes:
        leaves: The parameters, and the input behind them.
        value: The value.
    """

    leaves: dict[str, Tensor]
    value: Tensor


@dataclass(frozen=True)
class AlteredNorm(ops.BatchNorm):
    """A batch norm with a mistake in its statistics, or in where the gradient goes through them.

    Attributes:
        kind: The variance divides by one less than the number of its examples; mean and variance, or the
            variance alone, are constants for the gradient; or the epsilon is added to the variance's root.
    """

    kind: NormKind = "unbiased"

    def forward(self, p: Tree, x: Array) -> tuple[Array, Traced]:  # type: ignore[override]
        """See `mltk.ops.Operation`."""
        leaves = {name: double(p[name], varies=True) for name in ("weight", "bias")}
        leaves["x"] = double(x, varies=True)
        value = self._value(leaves)
        return value.value, Traced(leaves, value)

    def _value(self, leaves: dict[str, Tensor]) -> Tensor:
        x = leaves["x"]
        counted = x if self.rows is None else x[self._rows(x.ndim)]
        mean = counted.mean(self.axes, keepdims=True)
        away = counted - mean
        variance = (away * away).mean(self.axes, keepdims=True)
        if self.kind == "unbiased":
            count = counted.value.size / mean.value.size
            variance = variance * (count / max(count - 1, 1))
        elif self.kind == "detached":
            mean, variance = mean.detach(), variance.detach()
        elif self.kind == "detached variance":
            variance = variance.detach()
        beside = self.kind == "epsilon beside the root"
        deviation = variance.sqrt() + self.eps if beside else (variance + self.eps).sqrt()
        weight, bias = (self._per_task(leaves[name], x.ndim) for name in ("weight", "bias"))
        return (x - mean) / deviation * weight + bias

    def _rows(self, ndim: int) -> tuple[slice, ...]:
        return (*[slice(None)] * (ndim + self.axes[0]), slice(self.rows))

    def _per_task(self, channels: Tensor, ndim: int) -> Tensor:
        lead = channels.shape[:-1]
        return channels.reshape(
            (
                *lead,
                *[1] * (ndim - len(lead) - 1 - self.spatial_axes),
                channels.shape[-1],
                *[1] * self.spatial_axes,
            )
        )

    def jvp(self, p: Tree, res: Residuals, dp: Tree, dx: Array | None) -> Array:
        """See `mltk.ops.Operation`."""
        leaves = res.leaves
        return jvp([res.value], [*leaves.values()], _tangents(leaves, dp, dx))[0].value

    def vjp(self, p: Tree, res: Residuals, gy: Array, *, wrt_input: bool = True) -> tuple[Tree, Array | None]:
        """See `mltk.ops.Operation`."""
        return _named(res.leaves, grad(res.value, [*res.leaves.values()], double(gy)))

    def jvp_of_vjp(
        self, p: Tree, res: Residuals, gy: Array, d: Tangent, *, wrt_input: bool = True
    ) -> tuple[Tree, Array | None]:
        """See `mltk.ops.Operation`."""
        leaves, cotangent = res.leaves, double(gy, varies=True)
        pulled = grad(res.value, [*leaves.values()], cotangent)
        tangents = [*_tangents(leaves, d.p, d.x), double(d.gy)]
        return _named(leaves, jvp(pulled, [*leaves.values(), cotangent], tangents))


def _tangents(leaves: dict[str, Tensor], dp: Tree, dx: Array | None) -> list[Tensor]:
    tangents = {**dp, "x": dx}
    return [_tangent(tangents[name], leaf) for name, leaf in leaves.items()]


def _tangent(array: Array | None, of: Tensor) -> Tensor:
    """A tangent; ``None`` stands for zeros."""
    return double(np.zeros(of.shape) if array is None else array)


def _named(leaves: dict[str, Tensor], found: list[Tensor]) -> tuple[Tree, Array]:
    arrays = {name: g.value for name, g in zip(leaves, found, strict=True)}
    x = arrays.pop("x")
    return arrays, x


@dataclass(frozen=True)
class ClassMean(ops.CrossEntropy):
    """The mean over the classes of the mean cross-entropy of the examples of each."""

    def value(  # type: ignore[override]
        self, outputs: Array, target: Array
    ) -> tuple[Array, tuple[Tensor, Tensor]]:
        """See `mltk.ops.Loss`."""
        x = double(outputs, varies=True)
        members = np.asarray(target[..., None] == np.arange(outputs.shape[-1]), float)
        counts = members.sum(-2, keepdims=True)
        present = (counts > 0).sum(-1, keepdims=True)
        weights = members / np.where(counts > 0, counts, 1) / present
        shifted = x - double(outputs.max(-1, keepdims=True))
        normaliser = shifted.exp().sum(-1, keepdims=True).log()
        value = ((normaliser - shifted) * double(weights)).sum((-2, -1))
        return value.value, (x, value)

    def jvp(self, p: Tree, res: Residuals, dp: Tree, dx: Array | None) -> Array:
        """See `mltk.ops.Operation`."""
        x, value = res
        return jvp([value], [x], [_tangent(dx, x)])[0].value

    def vjp(
        self, p: Tree, res: Residuals, gy: Array | float, *, wrt_input: bool = True
    ) -> tuple[Tree, Array | None]:
        """See `mltk.ops.Operation`."""
        x, value = res
        return {}, grad(value, [x], double(np.broadcast_to(gy, value.shape)))[0].value

    def jvp_of_vjp(
        self, p: Tree, res: Residuals, gy: Array | float, d: Tangent, *, wrt_input: bool = True
    ) -> tuple[Tree, Array | None]:
        """See `mltk.ops.Operation`."""
        x, value = res
        cotangent = double(np.broadcast_to(gy, value.shape), varies=True)
        pulled = grad(value, [x], cotangent)
        moved = jvp(pulled, [x, cotangent], [_tangent(d.x, x), _tangent(d.gy, value)])
        return {}, moved[0].value
