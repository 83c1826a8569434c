"""Rows of a set: examples that are needed on the way but not at its end."""

from __future__ import annotations

from dataclasses import dataclass

from mltk.errors import ShapeError
from mltk.ops.kernels import kernels_of
from mltk.ops.pooling import LinearMap
from mltk.settings import check_count
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class DropRows(LinearMap):
    r"""All examples but the first ``rows``: ``(..., N, features)`` to ``(..., N - rows, features)``.

    $A$ is the identity without its first rows, so $A^\top$ puts zeros in front. Behind the layers of a model
    whose batch norms take their statistics from the support examples, which stand in front, this leaves the
    queries.
    """

    rows: int

    def __post_init__(self) -> None:
        check_count("rows", self.rows)

    def forward(self, p: Tree, x: Array) -> tuple[Array, None]:
        if x.ndim < 2 or x.shape[-2] <= self.rows:
            raise ShapeError(
                f"the input of DropRows has shape {tuple(x.shape)}; "
                f"expected (..., N, features) with more than {self.rows} examples"
            )
        return x[..., self.rows :, :], None

    def jvp(self, p: Tree, res: None, dp: Tree, dx: Array) -> Array:
        return dx[..., self.rows :, :]

    def vjp(self, p: Tree, res: None, gy: Array, *, wrt_input: bool = True) -> tuple[Tree, Array | None]:
        xp = kernels_of(gy).xp
        zeros = xp.zeros((*gy.shape[:-2], self.rows, gy.shape[-1]), dtype=gy.dtype, device=gy.device)
        return {}, xp.concat([zeros, gy], axis=-2)
