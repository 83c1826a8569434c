r"""Standardising to mean zero and variance one: the core that batch norm and layer norm share.

Over a set of $n$ numbers, with the mean $m(\cdot)$ over the set:

$$\mu = m(x), \qquad r = (m((x - \mu)^2) + \varepsilon)^{-1/2}, \qquad u = r (x - \mu).$$

Since $\dot r = -r^2 m(u \dot x)$, the tangent of $u$ is a self-adjoint map, so it is also the pullback:

$$\dot u = r P \dot x, \qquad \bar x = r P \bar u, \qquad P g = g - m(g) - u \, m(u g).$$

$P$ itself moves with $u$. Along $\dot x$ and $\dot{\bar u}$ the pullback therefore moves by

$$\dot{\bar x} = P(\dot r \bar u + r \dot{\bar u})
  - r \left( \dot u \, m(u \bar u) + u \, m(\dot u \bar u) \right).$$

The mean and $P$ are kernels: `Kernels.standardize` and `Kernels.project`.
"""

from __future__ import annotations

from typing import NamedTuple

from mltk.ops.kernels import kernels_of
from mltk.tree import Array


class Standardized(NamedTuple):
    """Standardised numbers and what their derivatives need.

    Attributes:
        u: The standardised numbers.
        r: Reciprocal standard deviation, with the set's axes kept at extent one.
        axes: The axes of the set.
    """

    u: Array
    r: Array
    axes: tuple[int, ...]


def standardize(x: Array, axes: tuple[int, ...], eps: float) -> Standardized:
    """Standardise over the given axes."""
    return Standardized(*kernels_of(x).standardize(x, axes, eps), axes)


def tangent(s: Standardized, dx: Array) -> tuple[Array, Array]:
    """The tangents of ``u`` and of ``r`` along ``dx``."""
    projected, _, slope = kernels_of(dx).project(s.u, dx, s.axes)
    return s.r * projected, -(s.r**2) * slope


def turn(s: Standardized, du: Array, g: Array, u_dot_g: Array) -> Array:
    """What the pullback of ``g`` gains as ``P`` moves along ``du``, where ``u_dot_g`` is ``m(u g)``."""
    mean = kernels_of(g).xp.mean(du * g, axis=s.axes, keepdims=True)
    return -s.r * (du * u_dot_g + s.u * mean)
