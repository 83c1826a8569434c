"""Batch normalisation with explicit statistics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from mltk.checks import Checked, Count, NonNegative
from mltk.errors import SettingError, ShapeError
from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Operation, Tangent, unfit
from mltk.ops.standardization import (
    Standardized,
    pullback,
    standardize,
    standardize_by,
    tangent_of_pullback,
    tangent_of_scaled,
)
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class BatchNorm(Checked, Operation):
    r"""Batch normalisation (Ioffe & Szegedy 2015), pure: no running averages.

    $y = \gamma u + \beta$, where $u$ is the input standardised per channel over all examples and pixels
    of a set (`mltk.ops.standardization` defines $u, r, P, m, \kappa$ and the weight $w$). The scale $\gamma$
    is constant over that set of $n$ numbers, so it is the factor of that module, with $g = \bar y$:

    $$\dot y = \gamma r P \dot x + \dot\gamma u + \dot\beta, \qquad
      \bar\gamma = \textstyle\sum u \bar y = n \kappa, \quad \bar\beta = \sum \bar y = n \, m(\bar y), \quad
      \bar x = \gamma r P \bar y,$$

    $$\dot{\bar\gamma} = n \dot\kappa, \qquad \dot{\bar\beta} = n \, m(\dot{\bar y}), \qquad
      \dot{\bar x} = \dot s \, (\bar y - m(\bar y) - u \kappa)
      + s \, (\dot{\bar y} - m(\dot{\bar y}) - u \dot\kappa - \dot u \kappa).$$

    Where mean and variance come from is explicit, since it decides whether the examples of a set see each
    other. The first of these that applies:

    1. Constants ``running_mean`` and ``running_var`` (biased), each ``(features,)`` or per task, if they
       stand beside the parameters ($w = 0$). They receive no cotangent and have no tangent.
    2. The first ``rows`` examples of the current set ($w = n / n_s$ there, 0 elsewhere). The gradient flows
       through them.
    3. All examples of the current set ($w = 1$: the formulas above).

    Parameters: ``weight`` $\gamma$ (ones) and ``bias`` $\beta$ (zeros), each ``(features,)``. Input
    ``(..., N, features, H, W)``, or ``(..., N, features)`` with ``spatial_axes=0``.

    Attributes:
        features: Channels.
        eps: Added to the variance.
        spatial_axes: How many axes follow the channels: 2 for images, 0 for vectors.
        statistics: Which of these a learner arranges for: ``"batch"``, the current set, is the convention of
            MAML, where queries see each other (transductive); with ``"support"`` the support examples
            normalise the queries; with ``"population"`` training takes the current set, and prediction the
            constants that `mltk.normalization.calibrate` finds.
        rows: How many examples, from the first on, mean and variance come from; ``None`` for all.
    """

    features: Count
    eps: NonNegative = 1e-5
    spatial_axes: int = 2
    statistics: Literal["batch", "support", "population"] = "batch"
    rows: Count | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.spatial_axes not in (0, 1, 2):
            raise SettingError(f"spatial_axes is {self.spatial_axes!r}; expected 0, 1 or 2")

    @property
    def example_axes(self) -> int:
        return 1 + self.spatial_axes

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": (self.features,), "bias": (self.features,)}

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"weight": np.ones(self.features), "bias": np.zeros(self.features)}

    @property
    def constant_shapes(self) -> dict[str, tuple[int, ...]]:
        return {"running_mean": (self.features,), "running_var": (self.features,)}

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """The axes of the set that is standardised: examples and pixels."""
        return (-2 - self.spatial_axes, *range(-self.spatial_axes, 0))

    def forward(self, p: Tree, x: Array) -> tuple[Array, Standardized]:
        if x.ndim < 2 + self.spatial_axes or x.shape[-1 - self.spatial_axes] != self.features:
            raise unfit(self, x, self.features, *"HW"[: self.spatial_axes])
        if "running_mean" in p:
            mean, variance = self._along(p["running_mean"]), self._along(p["running_var"])
            s = standardize_by(x, self.axes, mean, variance, self.eps)
        else:
            s = standardize(x, self.axes, self.eps, rows=self._counted(x))
        return kernels_of(x).combine(self._along(p["bias"]), [(self._along(p["weight"]), s.u)]), s

    def jvp(self, p: Tree, res: Standardized, dp: Tree, dx: Array | None) -> Array:
        dweight, dbias = self._along(dp["weight"]), self._along(dp["bias"])
        return tangent_of_scaled(res, self._along(p["weight"]), dweight, dx, dbias)

    def vjp(
        self, p: Tree, res: Standardized, gy: Array, *, wrt_input: bool = True
    ) -> tuple[Tree, Array | None]:
        gx, slope, mean = pullback(res, gy, self._along(p["weight"]))
        return {"weight": self._sum(slope, gy), "bias": self._sum(mean, gy)}, gx if wrt_input else None

    def jvp_of_vjp(
        self, p: Tree, res: Standardized, gy: Array, d: Tangent, *, wrt_input: bool = True
    ) -> tuple[Tree, Array | None]:
        dgx, slope, mean = tangent_of_pullback(
            res, gy, self._along(p["weight"]), d.gy, self._along(d.p["weight"]), d.x
        )
        return {"weight": self._sum(slope, gy), "bias": self._sum(mean, gy)}, dgx if wrt_input else None

    def _counted(self, x: Array) -> int | None:
        """How many of the examples count; ``None`` if all do."""
        count = x.shape[self.axes[0]]
        if self.rows is not None and self.rows > count:
            raise ShapeError(
                f"BatchNorm has rows={self.rows}, and the set {count} examples; expected as many"
            )
        return None if self.rows == count else self.rows

    def _along(self, channels: Array) -> Array:
        """Numbers per channel, ``(..., C)``, shaped to meet the input: ``(..., 1, C, 1, 1)``."""
        return channels[(..., None, slice(None), *[None] * self.spatial_axes)]

    def per_channel(self, kept: Array) -> Array:
        """Numbers per channel, ``(..., C)``, from those with the set's axes kept: ``(..., 1, C, 1, 1)``."""
        return kept[(..., 0, slice(None), *[0] * self.spatial_axes)]

    def _sum(self, mean: Array, like: Array) -> Array:
        """The sums over the set, ``(..., C)``, from means with the set's axes kept."""
        count = math.prod(like.shape[axis] for axis in self.axes)
        return self.per_channel(mean) * count
