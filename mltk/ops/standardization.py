r"""Standardising to mean zero and variance one: the core that batch norm and layer norm share.

Over a set of numbers, with the mean $m(\cdot)$ over the set:

$$\mu = m(x), \qquad r = (m((x - \mu)^2) + \varepsilon)^{-1/2}, \qquad u = r (x - \mu).$$

Since $\dot\mu = m(\dot x)$ and $\dot r = -r^2 m(u \dot x)$, the tangent of $u$ is $r$ times a self-adjoint
map $P$, so $r P$ is the pullback too:

$$\dot u = r P \dot x, \qquad \bar x = r P \bar u, \qquad P g = g - m(g) - u \, m(u g).$$

With a factor $\gamma$ that is constant over the set, $s = \gamma r$ and $\kappa = m(u g)$, the pullback of
$g$ is $s \, (g - m(g) - u \kappa)$. Its tangent follows by the product rule:

$$\dot{\bar x} = \dot s \, (g - m(g) - u \kappa)
  + s \, (\dot g - m(\dot g) - u \dot\kappa - \dot u \kappa),$$

$$\dot s = \dot\gamma r + \gamma \dot r, \qquad
  \dot\kappa = m(u \dot g) + m(\dot u g)
  = m(u \dot g) + r \left( m(\dot x g) - m(\dot x) \, m(g) - m(u \dot x) \, \kappa \right).$$

With $\dot u = r (\dot x - m(\dot x) - u \, m(u \dot x))$ written out, this is a combination of $g$, $\dot g$,
$\dot x$, $u$ and a constant, whose factors are means: few passes over the arrays.

Standardising, $P$, the means and the combination are kernels of `mltk.ops.kernels.Kernels`.
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


def tangent(s: Standardized, dx: Array) -> Array:
    """The tangent of ``u`` along ``dx``."""
    return kernels_of(dx).project(s.u, dx, s.r, s.axes)[0]


def pullback(s: Standardized, g: Array, factor: Array | float) -> tuple[Array, Array, Array]:
    """The pullback of ``g`` times a factor, with the means of ``u g`` and ``g``."""
    gx, mean, slope = kernels_of(g).project(s.u, g, factor * s.r, s.axes)
    return gx, slope, mean


def tangent_of_pullback(
    s: Standardized,
    g: Array,
    factor: Array | float,
    dg: Array,
    dfactor: Array | float,
    dx: Array | None,
) -> tuple[Array, Array, Array]:
    """The tangents of all that `pullback` returns along ``(dg, dfactor, dx)``."""
    kernels, u, r, axes = kernels_of(g), s.u, s.r, s.axes
    mean, slope = kernels.means(g, u, axes)
    dmean, dslope = kernels.means(dg, u, axes)
    scale, dscale = factor * r, dfactor * r
    terms = [(scale, dg)]
    of_du_to_u, of_du = 0, 0
    if dx is not None:
        mean_dx, slope_dx = kernels.means(dx, u, axes)
        dslope += r * (kernels.means(g, dx, axes)[1] - mean_dx * mean - slope_dx * slope)
        dscale = dscale - scale * r * slope_dx
        toward_dx = -scale * r * slope
        terms.append((toward_dx, dx))
        of_du_to_u, of_du = toward_dx * slope_dx, toward_dx * mean_dx
    terms += [(dscale, g), (-(dscale * slope + scale * dslope) - of_du_to_u, u)]
    return kernels.combine(-(dscale * mean + scale * dmean) - of_du, terms), dslope, dmean
