"""Layer normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mltk.errors import ShapeError
from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Operation
from mltk.ops.standardization import Standardized, standardize, tangent, turn
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class LayerNorm(Operation):
    r"""Layer normalisation (Ba, Kiros & Hinton 2016).

    $y = \gamma u + \beta$ element by element, where $u$ is each example standardised over its own features
    (`mltk.ops.standardization` defines $u, r, P$ and $m$). With $g = \gamma \bar y$ and its tangent
    $\dot g = \dot\gamma \bar y + \gamma \dot{\bar y}$:

    $$\dot y = \gamma \dot u + \dot\gamma u + \dot\beta, \qquad
      \bar\gamma = \textstyle\sum_n u \bar y, \quad \bar\beta = \sum_n \bar y, \quad \bar x = r P g,$$

    $$\dot{\bar\gamma} = \textstyle\sum_n (u \dot{\bar y} + \dot u \bar y), \quad
      \dot{\bar\beta} = \sum_n \dot{\bar y}, \quad
      \dot{\bar x} = P(\dot r g + r \dot g) - r \left( \dot u \, m(u g) + u \, m(\dot u g) \right).$$

    Parameters: ``weight`` $\gamma$ (ones) and ``bias`` $\beta$ (zeros), each of the shape of the features.
    Input ``(..., N, *features)``.

    Attributes:
        features: Shape of one example: an integer for vectors, ``(C, H, W)`` for images.
        eps: Added to the variance.
    """

    features: int | tuple[int, ...]
    eps: float = 1e-5

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return (self.features,) if isinstance(self.features, int) else tuple(self.features)

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """The axes that are standardised."""
        return tuple(range(-len(self.shape), 0))

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": self.shape, "bias": self.shape}

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"weight": np.ones(self.shape), "bias": np.zeros(self.shape)}

    def forward(self, p: Tree, x: Array) -> tuple[Array, Standardized]:
        if tuple(x.shape[-len(self.shape) :]) != self.shape:
            raise ShapeError(
                f"the input of LayerNorm has shape {tuple(x.shape)}; "
                f"expected (..., N, {', '.join(str(extent) for extent in self.shape)})"
            )
        s = standardize(x, self.axes, self.eps)
        return self._along(p["weight"]) * s.u + self._along(p["bias"]), s

    def jvp(self, p: Tree, res: Standardized, dp: Tree, dx: Array | None) -> Array:
        dy = self._along(dp["weight"]) * res.u + self._along(dp["bias"])
        if dx is not None:
            dy += self._along(p["weight"]) * tangent(res, dx)[0]
        return dy

    def vjp(
        self, p: Tree, res: Standardized, gy: Array, *, wrt_input: bool = True
    ) -> tuple[Tree, Array | None]:
        gp = {"weight": self._sum(res.u * gy), "bias": self._sum(gy)}
        if not wrt_input:
            return gp, None
        g = self._along(p["weight"]) * gy
        return gp, res.r * kernels_of(g).project(res.u, g, self.axes)[0]

    def jvp_of_vjp(
        self,
        p: Tree,
        res: Standardized,
        gy: Array,
        dp: Tree,
        dx: Array | None,
        dgy: Array,
        *,
        wrt_input: bool = True,
    ) -> tuple[Tree, Array | None]:
        kernels = kernels_of(gy)
        dgp = {"weight": self._sum(res.u * dgy), "bias": self._sum(dgy)}
        moved = res.r * (self._along(dp["weight"]) * gy + self._along(p["weight"]) * dgy)
        turned: Array = 0
        if dx is not None:
            g = self._along(p["weight"]) * gy
            du, dr = tangent(res, dx)
            dgp["weight"] += self._sum(du * gy)
            moved += dr * g
            u_dot_g = kernels.xp.mean(res.u * g, axis=self.axes, keepdims=True)
            turned = turn(res, du, g, u_dot_g)
        if not wrt_input:
            return dgp, None
        return dgp, kernels.project(res.u, moved, self.axes)[0] + turned

    def _along(self, features: Array) -> Array:
        """Numbers per feature, shared by the examples: ``(..., *features)`` to ``(..., 1, *features)``."""
        return features[(..., None, *[slice(None)] * len(self.shape))]

    def _sum(self, values: Array) -> Array:
        return kernels_of(values).xp.sum(values, axis=-1 - len(self.shape))
