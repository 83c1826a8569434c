"""Batch normalisation with explicit statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mltk.errors import SettingError
from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Operation, unfit
from mltk.ops.standardization import Standardized, pullback, standardize, tangent_of_pullback
from mltk.settings import check_count, check_scale
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class BatchNorm(Operation):
    r"""Batch normalisation (Ioffe & Szegedy 2015), pure: no running averages.

    $y = \gamma u + \beta$, where $u$ is the input standardised per channel over all examples and pixels
    of the current set (`mltk.ops.standardization` defines $u, r, P, m$ and $\kappa$). The scale $\gamma$ is
    constant over that set of $n$ numbers, so it is the factor of that module, with $g = \bar y$:

    $$\dot y = \gamma r P \dot x + \dot\gamma u + \dot\beta, \qquad
      \bar\gamma = \textstyle\sum u \bar y = n \kappa, \quad \bar\beta = \sum \bar y = n \, m(\bar y), \quad
      \bar x = \gamma r P \bar y,$$

    $$\dot{\bar\gamma} = n \dot\kappa, \qquad \dot{\bar\beta} = n \, m(\dot{\bar y}), \qquad
      \dot{\bar x} = \dot s \, (\bar y - m(\bar y) - u \kappa)
      + s \, (\dot{\bar y} - m(\dot{\bar y}) - u \dot\kappa - \dot u \kappa).$$

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
        check_count("features", self.features)
        check_scale("eps", self.eps)
        if self.statistics != "batch":
            raise SettingError(f'statistics is {self.statistics!r}; expected "batch"')
        if self.spatial_axes not in (0, 1, 2):
            raise SettingError(f"spatial_axes is {self.spatial_axes!r}; expected 0, 1 or 2")

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
            raise unfit(self, x, self.features, *"HW"[: self.spatial_axes])
        s = standardize(x, self.axes, self.eps)
        return kernels_of(x).combine(self._along(p["bias"]), [(self._along(p["weight"]), s.u)]), s

    def jvp(self, p: Tree, res: Standardized, dp: Tree, dx: Array | None) -> Array:
        kernels = kernels_of(res.u)
        dweight, dbias = self._along(dp["weight"]), self._along(dp["bias"])
        if dx is None:
            return kernels.combine(dbias, [(dweight, res.u)])
        scale = self._along(p["weight"]) * res.r
        mean, slope = kernels.means(dx, res.u, self.axes)
        return kernels.combine(dbias - scale * mean, [(scale, dx), (dweight - scale * slope, res.u)])

    def vjp(
        self, p: Tree, res: Standardized, gy: Array, *, wrt_input: bool = True
    ) -> tuple[Tree, Array | None]:
        gx, slope, mean = pullback(res, gy, self._along(p["weight"]))
        return {"weight": self._sum(slope, gy), "bias": self._sum(mean, gy)}, gx if wrt_input else None

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
        dgx, slope, mean = tangent_of_pullback(
            res, gy, self._along(p["weight"]), dgy, self._along(dp["weight"]), dx
        )
        return {"weight": self._sum(slope, gy), "bias": self._sum(mean, gy)}, dgx if wrt_input else None

    def _along(self, channels: Array) -> Array:
        """Numbers per channel, ``(..., C)``, shaped to meet the input: ``(..., 1, C, 1, 1)``."""
        return channels[(..., None, slice(None), *[None] * self.spatial_axes)]

    def _sum(self, mean: Array, like: Array) -> Array:
        """The sums over the set, ``(..., C)``, from means with the set's axes kept."""
        count = math.prod(like.shape[axis] for axis in self.axes)
        channels = mean[(..., 0, slice(None), *[0] * self.spatial_axes)]
        return channels * count
