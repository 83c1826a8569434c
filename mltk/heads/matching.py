"""Classification by attention to the labelled examples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from mltk.checks import Checked, check_scale
from mltk.errors import SettingError
from mltk.heads.head import Head
from mltk.heads.similarity import Unit, cosine_pullback, normalize
from mltk.ops.kernels import kernels_of
from mltk.tree import Array, Tree

COLDEST = 0.03
"""The smallest temperature: the exponential of -2 over it is still a normal number in float32."""


def check_temperature(name: str, value: Any) -> None:
    """Raise `SettingError` unless exponentials of cosines over it stay normal numbers in single precision."""
    check_scale(name, value)
    if value < COLDEST:
        raise SettingError(f"{name} is {value!r}; expected at least {COLDEST}")


Temperature = Annotated[float, check_temperature]
"""What cosines are divided by."""


@dataclass(frozen=True)
class MatchingHead(Checked, Head):
    r"""Log-probabilities by cosine attention to the support set.

    Vinyals, Blundell, Lillicrap, Kavukcuoglu & Wierstra (2016), equation 1 and section 2.1.1. With the
    one-hot targets $t$, query $j$ attends to support example $i$ with

    $$a_{ji} = \frac{e_{ji}}{\sum_l e_{jl}}, \quad e_{ji} = \exp \frac{\cos(q_j, s_i) - 1}{\tau}, \qquad
      p_{jk} = \sum_i a_{ji} t_{ik}, \qquad y_{jk} = \log p_{jk} = \log m_{jk} - \log \sum_l e_{jl},$$

    where $m_{jk} = \sum_i e_{ji} t_{ik}$ is the mass of class $k$. The paper has the temperature $\tau = 1$,
    at which the probability of one of $n$ examples is at most $1 / (1 + (n - 1) e^{-2})$. Cosines are at
    most 1, so that no exponential overflows. Since the outputs are normalised, their cross-entropy is
    $-\log p$ itself. The cotangent of the cosines is

    $$\tau \bar c_{ji} = e_{ji} \sum_k \frac{\bar y_{jk}}{m_{jk}} t_{ik} - a_{ji} \sum_k \bar y_{jk},$$

    and `mltk.heads.similarity` takes it from there. A class without examples, which no valid episode has, has
    a vanishing probability (the root of the smallest normal number) instead of none.

    Attributes:
        temperature: $\tau$, at least 0.03.
    """

    temperature: Temperature = 1.0

    def fit(self, p: Tree, support: Array, target: Array) -> Tree:
        """The support set: ``embeddings`` ``(T, N, d)`` and one-hot ``target`` ``(T, N, ways)``."""
        return {"embeddings": support, "target": target}

    def predict(self, p: Tree, fitted: Tree, query: Array) -> Array:
        """The log-probabilities ``(T, M, ways)``."""
        return match(query, fitted["embeddings"], fitted["target"], self.temperature)[0]

    def forward(self, p: Tree, support: Array, target: Array, query: Array) -> tuple[Array, Any]:
        """See `Head.forward`."""
        return match(query, support, target, self.temperature)

    def vjp(self, p: Tree, residuals: Any, gy: Array) -> tuple[Tree, Array, Array]:
        """See `Head.vjp`."""
        g_query, g_support = match_pullback(residuals, gy)
        return {}, g_support, g_query


class Matched(NamedTuple):
    """What the pullback needs: the unit vectors, exponentials, masses and temperature of `MatchingHead`."""

    query: Unit
    support: Unit
    exponentials: Array
    mass: Array
    target: Array
    temperature: float


def match(query: Array, support: Array, target: Array, temperature: float = 1.0) -> tuple[Array, Matched]:
    """The log-probabilities ``(T, M, ways)`` of queries, and what the pullback needs."""
    xp = kernels_of(query).xp
    a, b = normalize(query), normalize(support)
    exponentials = xp.exp((a.unit @ b.unit.mT - 1) / temperature)
    absent = xp.astype(xp.sum(target, axis=-2, keepdims=True) == 0, target.dtype)
    mass = exponentials @ target + absent * math.sqrt(xp.finfo(target.dtype).smallest_normal)
    y = xp.log(mass) - xp.log(xp.sum(exponentials, axis=-1, keepdims=True))
    return y, Matched(a, b, exponentials, mass, target, temperature)


def match_pullback(matched: Matched, gy: Array) -> tuple[Array, Array]:
    """The cotangents of the queries and of the support embeddings."""
    xp = kernels_of(gy).xp
    e = matched.exponentials
    share = xp.sum(gy, axis=-1, keepdims=True) / xp.sum(e, axis=-1, keepdims=True)
    g = e * ((gy / matched.mass) @ matched.target.mT - share) / matched.temperature
    return cosine_pullback(matched.query, matched.support, g)
