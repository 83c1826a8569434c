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
from mltk.ops.operation import Operation, Pulled, Tangent, unfit
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
    of a set (`mltk.ops.standardization` defines $u, r, P, m, \kappa, s, \dot s$ and the weight $w$). The
    scale $\gamma$ is constant over that set of $n$ numbers, so it is the factor there, with $g = \bar y$:

    $$\dot y = \gamma r P \dot x + \dot\gamma u + \dot\beta, \qquad
      \bar\gamma = \textstyle\sum u \bar y = n \kappa, \quad \bar\beta = \sum \bar y = n \, m(\bar y), \quad
      \bar x = \gamma r P \bar y,$$

    $$\dot{\bar\gamma} = n \dot\kappa, \qquad \dot{\bar\beta} = n \, m(\dot{\bar y}), \qquad
      \dot{\bar x} = \dot s \, (\bar y - m(\bar y) - u \kappa)
      + s \, (\dot{\bar y} - m(\dot{\bar y}) - u \dot\kappa - \dot u \kappa).$$

    Where mean and variance come from is explicit, since it decides whether the examples of a set see each
    other. The operation takes constants that stand beside its parameters, else the first ``rows`` examples of
    the set, else all of them; a learner arranges for one of these by ``statistics``:

    | ``statistics`` | what counts in training | what counts in prediction |
    | --- | --- | --- |
    | ``"batch"`` | all examples of the set, $w = 1$ | all: the queries see each other (transductive) |
    | ``"support"`` | the support set, the first ``rows`` | the constants of the support set |
    | ``"population"`` | all examples of the set, $w = 1$ | constants of `mltk.normalization.calibrate` |

    Of ``rows`` the weight is $w = n / n_s$, and 0 elsewhere; the gradient flows through them. The constants
    ``running_mean`` and ``running_var`` (biased), each ``(features,)`` or per task, mean $w = 0$: they
    receive no cotangent and have no tangent.

    Parameters: ``weight`` $\gamma$ (ones) and ``bias`` $\beta$ (zeros), each ``(features,)``. Input
    ``(..., N, features, H, W)``, or ``(..., N, features)`` with ``spatial_axes=0``.

    Attributes:
        features: Channels.
        eps: Added to the variance.
        spatial_axes: How many axes follow the channels: 2 for images, 0 for vectors.
        statistics: What a learner arranges for: see above. ``"batch"`` is the convention of MAML.
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
        """The axes of the set that is standardised: examples and pixels.

        With ``spatial_axes=2`` these are ``N``, ``H`` and ``W`` of ``(T, N, C, H, W)``. Means over them are
        kept as ``(T, 1, C, 1, 1)``, and meet parameters of shape ``(C,)`` or ``(T, C)``: `_along`,
        `per_channel` and `_sum` go from one to the other.
        """
        return (-2 - self.spatial_axes, *range(-self.spatial_axes, 0))

    def forward(self, p: Tree, x: Array) -> tuple[Array, Standardized]:
        if x.ndim < 2 + self.spatial_axes or x.shape[-1 - self.spatial_axes] != self.features:
            raise unfit(self, x, self.features, *"HW"[: self.spatial_axes])
        if "running_mean" in p:
            mean, variance = self._along(p["running_mean"]), self._along(p["running_var"])
            res = standardize_by(x, self.axes, mean, variance, self.eps)
        else:
            res = standardize(x, self.axes, self.eps, rows=self._counted(x))
        return kernels_of(x).combine(self._along(p["bias"]), [(self._along(p["weight"]), res.u)]), res

    def jvp(self, p: Tree, res: Standardized, dp: Tree, dx: Array | None) -> Array:
        dweight, dbias = self._along(dp["weight"]), self._along(dp["bias"])
        return tangent_of_scaled(res, self._along(p["weight"]), dweight, dx, dbias)

    def vjp(self, p: Tree, res: Standardized, gy: Array, *, wrt_input: bool = True) -> Pulled:
        gx, kappa, mean = pullback(res, gy, self._along(p["weight"]))
        return {"weight": self._sum(kappa, gy), "bias": self._sum(mean, gy)}, gx if wrt_input else None

    def jvp_of_vjp(
        self, p: Tree, res: Standardized, gy: Array, d: Tangent, *, wrt_input: bool = True
    ) -> Pulled:
        dgx, dkappa, dmean = tangent_of_pullback(
            res, gy, self._along(p["weight"]), d.gy, self._along(d.p["weight"]), d.x
        )
        return {"weight": self._sum(dkappa, gy), "bias": self._sum(dmean, gy)}, dgx if wrt_input else None

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
