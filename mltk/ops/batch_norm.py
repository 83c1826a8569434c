"""Batch normalisation with explicit statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mltk.errors import SettingError, ShapeError
from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Operation
from mltk.ops.standardization import Standardized, standardize, tangent, turn
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class BatchNorm(Operation):
    r"""Batch normalisation (Ioffe & Szegedy 2015), pure: no running averages.

    $y = \gamma u + \beta$, where $u$ is the input standardised per channel over all examples and pixels
    of the current set (`mltk.ops.standardization` defines $u, r, P$ and $m$). The scale $\gamma$ is constant
    over that set, so it passes through $P$:

    $$\dot y = \gamma \dot u + \dot\gamma u + \dot\beta, \qquad
      \bar\gamma = \textstyle\sum u \bar y, \quad \bar\beta = \sum \bar y, \quad \bar x = \gamma r P \bar y,$$

    $$\dot{\bar\gamma} = \textstyle\sum (u \dot{\bar y} + \dot u \bar y), \qquad
      \dot{\bar\beta} = \sum \dot{\bar y},$$

    $$\dot{\bar x} = P\left( (\gamma \dot r + \dot\gamma r) \bar y + \gamma r \dot{\bar y} \right)
      - \gamma r \left( \dot u \, m(u \bar y) + u \, m(\dot u \bar y) \right).$$

    Parameters: ``weight`` $\gamma$ (ones) and ``bias`` $\beta$ (zeros), each ``(features,)``. Input
    ``(..., N, features, H, W)``, or ``(..., N, features)`` with ``spatial_axes=0``.

    Attributes:
        features: Channels.
        eps: Added to the variance.
        spatial_axes: How many axes follow the channels: 2 for images, 0 for vectors.
        statistics: Where mean and variance come from: ``"batch"`` is all examples of the current set, the
            convention of MAML; queries then see each other (transductive).
    """

    features: int
    eps: float = 1e-5
    spatial_axes: int = 2
    statistics: str = "batch"

    def __post_init__(self) -> None:
        if self.statistics != "batch":
            raise SettingError(f'statistics is {self.statistics!r}; expected "batch"')

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.features,), "bias": (self.features,)}

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"weight": np.ones(self.features), "bias": np.zeros(self.features)}

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """The axes of the set that is standardised: examples and pixels."""
        return (-2 - self.spatial_axes, *range(-self.spatial_axes, 0))

    def forward(self, p: Tree, x: Array) -> tuple[Array, Standardized]:
        if x.ndim < 2 + self.spatial_axes or x.shape[-1 - self.spatial_axes] != self.features:
            raise ShapeError(
                f"the input of BatchNorm has shape {tuple(x.shape)}; "
                f"expected (..., N, {', '.join([str(self.features), 'H', 'W'][: 1 + self.spatial_axes])})"
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
        projected, mean, slope = kernels_of(gy).project(res.u, gy, self.axes)
        gp = {"weight": self._sum(slope, gy), "bias": self._sum(mean, gy)}
        return gp, self._along(p["weight"]) * res.r * projected if wrt_input else None

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
        xp = kernels_of(gy).xp
        weight, dweight = self._along(p["weight"]), self._along(dp["weight"])
        mean = xp.mean(dgy, axis=self.axes, keepdims=True)
        slope = xp.mean(res.u * dgy, axis=self.axes, keepdims=True)
        moved = dweight * res.r * gy + weight * res.r * dgy
        turned: Array = 0
        if dx is not None:
            du, dr = tangent(res, dx)
            u_dot_gy = xp.mean(res.u * gy, axis=self.axes, keepdims=True)
            slope += xp.mean(du * gy, axis=self.axes, keepdims=True)
            moved += weight * dr * gy
            turned = weight * turn(res, du, gy, u_dot_gy)
        dgp = {"weight": self._sum(slope, gy), "bias": self._sum(mean, gy)}
        if not wrt_input:
            return dgp, None
        return dgp, kernels_of(gy).project(res.u, moved, self.axes)[0] + turned

    def _along(self, channels: Array) -> Array:
        """Numbers per channel, ``(..., C)``, shaped to meet the input: ``(..., 1, C, 1, 1)``."""
        return channels[(..., None, slice(None), *[None] * self.spatial_axes)]

    def _sum(self, mean: Array, like: Array) -> Array:
        """The sums over the set, ``(..., C)``, from means with the set's axes kept."""
        count = math.prod(like.shape[axis] for axis in self.axes)
        channels = mean[(..., 0, slice(None), *[0] * self.spatial_axes)]
        return channels * count
