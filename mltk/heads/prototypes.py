"""Classification by the nearest class mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from mltk.checks import Checked, check_scale, did_you_mean
from mltk.errors import SettingError
from mltk.heads.head import Head
from mltk.heads.similarity import centred, cosine_pullback, normalize, sqeuclidean, sqeuclidean_pullback
from mltk.ops.kernels import kernels_of
from mltk.tree import Array, Tree

STARTS = {"sqeuclidean": 1.0, "cosine": 0.1}
"""The distances, and where a learned temperature starts."""


def check_temperature(name: str, value: Any) -> None:
    """Raise `SettingError` unless the setting is a finite positive number or ``"learned"``."""
    if not isinstance(value, str):
        check_scale(name, value, positive=True)
    elif value != "learned":
        hint = did_you_mean(value, ["learned"])
        raise SettingError(f'{name} is {value!r}; expected a number or "learned"{hint}')


@dataclass(frozen=True)
class PrototypicalSettings(Checked):
    r"""The settings of `PrototypicalHead` and its learner.

    Attributes:
        distance: ``"sqeuclidean"`` or ``"cosine"``.
        temperature: What distances or similarities are divided by to give logits, $\tau$, or ``"learned"``:
            from 1 for squared distances, 0.1 for cosines.
    """

    distance: Literal["sqeuclidean", "cosine"] = "sqeuclidean"
    temperature: Annotated[float | Literal["learned"], check_temperature] = 1.0


@dataclass(frozen=True)
class PrototypicalHead(PrototypicalSettings, Head):
    r"""Logits from the distances to the class means (Snell, Swersky & Zemel 2017, equations 1 and 2).

    With the one-hot targets $t$ and $n_k$ support examples of class $k$, the prototype of class $k$ is
    $c_k = \tfrac{1}{n_k} \sum_i t_{ik} s_i$, and the logits are $z_{jk} = -\|q_j - c_k\|^2 / \tau$ or
    $\cos(q_j, c_k) / \tau$. The pullback of the similarities (`mltk.heads.similarity`) gives $\bar q$ and
    $\bar c$; then

    $$\bar s_i = \sum_k t_{ik} \bar c_k / n_k, \qquad
      \overline{\log\tau} = -\sum_{jk} \bar z_{jk} z_{jk}.$$

    Parameters: ``log_temperature``, one number, if the temperature is learned.
    """

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `Head.shapes`."""
        return {"log_temperature": ()} if self.temperature == "learned" else {}

    def init(self, rng: np.random.Generator) -> dict[str, Any]:
        """See `Head.init`."""
        return {name: np.log(STARTS[self.distance]) for name in self.shapes}

    def fit(self, p: Tree, support: Array, target: Array) -> Tree:
        """The prototypes ``(T, ways, d)``."""
        return {"prototypes": _shares(target).mT @ support}

    def predict(self, p: Tree, fitted: Tree, query: Array) -> Array:
        """The logits ``(T, M, ways)``."""
        return self._logits(p, fitted["prototypes"], query)[0]

    def forward(self, p: Tree, support: Array, target: Array, query: Array) -> tuple[Array, Any]:
        """See `Head.forward`."""
        shares = _shares(target)
        logits, compared = self._logits(p, shares.mT @ support, query)
        return logits, (logits, shares, compared)

    def vjp(self, p: Tree, residuals: Any, gy: Array) -> tuple[Tree, Array, Array]:
        """See `Head.vjp`."""
        logits, shares, (a, b) = residuals
        scale = self._scale(p, logits)
        if self.distance == "cosine":
            g_query, g_prototypes = cosine_pullback(a, b, gy * scale)
        else:
            g_query, g_prototypes = sqeuclidean_pullback(a, b, -gy * scale)
        gp: Tree = {}
        if self.temperature == "learned":
            gp = {"log_temperature": -kernels_of(gy).sum(gy, (-2, -1), times=logits)}
        return gp, shares @ g_prototypes, g_query

    def _logits(self, p: Tree, prototypes: Array, query: Array) -> tuple[Array, Any]:
        """The logits and the two sets as they were compared."""
        if self.distance == "cosine":
            a, b = normalize(query), normalize(prototypes)
            return (a.unit @ b.unit.mT) * self._scale(p, query), (a, b)
        moved = centred(query, prototypes)
        return -sqeuclidean(*moved) * self._scale(p, query), moved

    def _scale(self, p: Tree, like: Array) -> Array | float:
        """One over the temperature."""
        if self.temperature == "learned":
            return kernels_of(like).xp.exp(-p["log_temperature"])[..., None, None]
        return 1 / float(self.temperature)


def _shares(target: Array) -> Array:
    """The share of each example in its class's mean, ``(T, N, ways)``."""
    kernels = kernels_of(target)
    return target / kernels.at_least(kernels.xp.sum(target, axis=-2, keepdims=True), 1)
