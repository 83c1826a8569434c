"""Layer normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mltk.checks import Checked, NonNegative, check_counts
from mltk.errors import SettingError
from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Operation, Pulled, Tangent, unfit
from mltk.ops.standardization import Standardized, pullback, standardize, tangent, tangent_of_pullback
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class LayerNorm(Checked, Operation):
    r"""Layer normalisation (Ba, Kiros & Hinton 2016).

    $y = \gamma u + \beta$ element by element, where $u$ is each example standardised over its own features
    (`mltk.ops.standardization` defines $u, r, P, m$ and $\kappa$; its factor is 1, so $s = r$). With
    $g = \gamma \bar y$ and its tangent $\dot g = \dot\gamma \bar y + \gamma \dot{\bar y}$:

    $$\dot y = \gamma \dot u + \dot\gamma u + \dot\beta, \qquad
      \bar\gamma = \textstyle\sum_n u \bar y, \quad \bar\beta = \sum_n \bar y, \quad \bar x = r P g,$$

    $$\dot{\bar\gamma} = \textstyle\sum_n (u \dot{\bar y} + \dot u \bar y), \quad
      \dot{\bar\beta} = \sum_n \dot{\bar y}, \quad
      \dot{\bar x} = \dot r \, (g - m(g) - u \kappa)
      + r \, (\dot g - m(\dot g) - u \dot\kappa - \dot u \kappa).$$

    Parameters: ``weight`` $\gamma$ (ones) and ``bias`` $\beta$ (zeros), each of the shape of the features.
    Input ``(..., N, *features)``.

    Attributes:
        features: Shape of one example: an integer for vectors, ``(C, H, W)`` for images.
        eps: Added to the variance.
    """

    features: int | tuple[int, ...]
    eps: NonNegative = 1e-5

    def __post_init__(self) -> None:
        several = isinstance(self.features, tuple | list)
        check_counts("features", self.features if several else (self.features,))
        if not self.shape:
            raise SettingError("features is (); expected the shape of an example, with one axis or more")
        super().__post_init__()

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.features) if isinstance(self.features, tuple | list) else (self.features,)

    @cached_property
    def axes(self) -> tuple[int, ...]:
        """The axes that are standardised."""
        return tuple(range(-len(self.shape), 0))

    @property
    def example_axes(self) -> int:
        return len(self.shape)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"weight": self.shape, "bias": self.shape}

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"weight": np.ones(self.shape), "bias": np.zeros(self.shape)}

    def forward(self, p: Tree, x: Array) -> tuple[Array, Standardized]:
        if x.ndim <= len(self.shape) or tuple(x.shape[-len(self.shape) :]) != self.shape:
            raise unfit(self, x, *self.shape)
        res = standardize(x, self.axes, self.eps)
        return kernels_of(x).combine(self._along(p["bias"]), [(self._along(p["weight"]), res.u)]), res

    def jvp(self, p: Tree, res: Standardized, dp: Tree, dx: Array | None) -> Array:
        terms = [(self._along(dp["weight"]), res.u)]
        if dx is not None:
            terms.append((self._along(p["weight"]), tangent(res, dx)))
        return kernels_of(res.u).combine(self._along(dp["bias"]), terms)

    def vjp(self, p: Tree, res: Standardized, gy: Array, *, wrt_input: bool = True) -> Pulled:
        gp = {"weight": self._sum(gy, res.u), "bias": self._sum(gy)}
        if not wrt_input:
            return gp, None
        return gp, pullback(res, self._along(p["weight"]) * gy, 1)[0]

    def jvp_of_vjp(
        self, p: Tree, res: Standardized, gy: Array, d: Tangent, *, wrt_input: bool = True
    ) -> Pulled:
        dgp = {"weight": self._sum(d.gy, res.u), "bias": self._sum(d.gy)}
        if d.x is not None:
            dgp["weight"] += self._sum(gy, tangent(res, d.x))
        if not wrt_input:
            return dgp, None
        weight = self._along(p["weight"])
        dg = kernels_of(gy).combine(0, [(weight, d.gy), (self._along(d.p["weight"]), gy)])
        return dgp, tangent_of_pullback(res, weight * gy, 1, dg, 0, d.x)[0]

    def _along(self, features: Array) -> Array:
        """Numbers per feature, shared by the examples: ``(..., *features)`` to ``(..., 1, *features)``."""
        return features[(..., None, *[slice(None)] * len(self.shape))]

    def _sum(self, values: Array, times: Array | None = None) -> Array:
        return kernels_of(values).sum(values, (-1 - len(self.shape),), times=times)
