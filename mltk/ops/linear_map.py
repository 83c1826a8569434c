"""Fixed linear maps: what they share, and those that change the shape of a set alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mltk.checks import Checked, Count
from mltk.errors import ShapeError
from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Operation, Pulled, Residuals, Tangent, unfit
from mltk.tree import Array, Tree


class LinearMap(Operation):
    r"""An operation $y = A x$ without parameters, where $A$ is fixed once the residuals are known.

    $$\dot y = A \dot x, \qquad \bar x = A^\top \bar y, \qquad \dot{\bar x} = A^\top \dot{\bar y}.$$
    """

    def jvp_of_vjp(self, p: Tree, res: Residuals, gy: Array, d: Tangent, *, wrt_input: bool = True) -> Pulled:
        return self.vjp(p, res, d.gy, wrt_input=wrt_input)


@dataclass(frozen=True)
class Flatten(Checked, LinearMap):
    """Each example as one row, channels slowest: ``(..., N, C, H, W)`` to ``(..., N, C·H·W)``.

    Attributes:
        out_features: What C·H·W must be, for those who ask before any image is seen; ``None`` for anything.
    """

    out_features: Count | None = None

    example_axes = 3
    output_axes = 1

    def forward(self, p: Tree, x: Array) -> tuple[Array, tuple[int, ...]]:
        check_images(self, x)
        if self.out_features not in (None, math.prod(x.shape[-3:])):
            raise ShapeError(
                f"the input of Flatten has shape {tuple(x.shape)}, with {math.prod(x.shape[-3:])} numbers an "
                f"example; expected {self.out_features}"
            )
        return self.jvp(p, None, {}, x), x.shape[-3:]

    def jvp(self, p: Tree, res: Residuals, dp: Tree, dx: Array) -> Array:
        return kernels_of(dx).xp.reshape(dx, (*dx.shape[:-3], math.prod(dx.shape[-3:])))

    def vjp(self, p: Tree, res: tuple[int, ...], gy: Array, *, wrt_input: bool = True) -> Pulled:
        return {}, kernels_of(gy).xp.reshape(gy, (*gy.shape[:-1], *res))


@dataclass(frozen=True)
class DropRows(Checked, LinearMap):
    r"""All examples but the first ``rows``: ``(..., N, *features)`` to ``(..., N - rows, *features)``.

    $A$ is the identity without its first rows, so $A^\top$ puts zeros in front. Behind the layers of a model
    whose batch norms take their statistics from the support examples, which stand in front, this leaves the
    queries.

    Attributes:
        rows: How many examples are dropped.
        axes: How many axes an example has.
    """

    rows: Count
    axes: Count = 1

    @property
    def example_axes(self) -> int:
        return self.axes

    @cached_property
    def _kept(self) -> tuple[Any, ...]:
        """The index of what is kept."""
        return (..., slice(self.rows, None), *[slice(None)] * self.axes)

    def forward(self, p: Tree, x: Array) -> tuple[Array, None]:
        if x.ndim <= self.axes or x.shape[-1 - self.axes] <= self.rows:
            raise ShapeError(
                f"the input of DropRows has shape {tuple(x.shape)}; "
                f"expected (..., N, *features) with more than {self.rows} examples"
            )
        return x[self._kept], None

    def jvp(self, p: Tree, res: None, dp: Tree, dx: Array) -> Array:
        return dx[self._kept]

    def vjp(self, p: Tree, res: None, gy: Array, *, wrt_input: bool = True) -> Pulled:
        xp = kernels_of(gy).xp
        place = gy.ndim - 1 - self.axes
        shape = (*gy.shape[:place], self.rows, *gy.shape[place + 1 :])
        zeros = xp.zeros(shape, dtype=gy.dtype, device=gy.device)
        return {}, xp.concat([zeros, gy], axis=place)


def check_images(operation: Operation, x: Array) -> None:
    """Raise unless the input is images."""
    if x.ndim < 4:
        raise unfit(operation, x, "C", "H", "W")
