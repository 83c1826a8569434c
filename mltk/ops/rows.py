"""Rows of a set: examples that are needed on the way but not at its end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mltk.checks import Checked, Count
from mltk.errors import ShapeError
from mltk.ops.kernels import kernels_of
from mltk.ops.pooling import LinearMap
from mltk.tree import Array, Tree


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

    def vjp(self, p: Tree, res: None, gy: Array, *, wrt_input: bool = True) -> tuple[Tree, Array | None]:
        xp = kernels_of(gy).xp
        place = gy.ndim - 1 - self.axes
        shape = (*gy.shape[:place], self.rows, *gy.shape[place + 1 :])
        zeros = xp.zeros(shape, dtype=gy.dtype, device=gy.device)
        return {}, xp.concat([zeros, gy], axis=place)
