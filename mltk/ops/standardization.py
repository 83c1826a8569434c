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

Mean and variance may come from a part of the set alone: then $\mu = m(w x)$ and
$r = (m(w (x - \mu)^2) + \varepsilon)^{-1/2}$, where the weight $w$ is $n / n_s$ on the $n_s$ of $n$ numbers
that count and 0 on the others. With $\dot\mu = m(w \dot x)$ and $\dot r = -r^2 m(w u \dot x)$,

$$\dot u = r \left( \dot x - m(w \dot x) - u \, m(w u \dot x) \right), \qquad
  \bar x = s \left( g - w \, (m(g) + u \kappa) \right),$$

$$\dot{\bar x} = \dot s \left( g - w \, (m(g) + u \kappa) \right)
  + s \left( \dot g - w \, (m(\dot g) + u \dot\kappa + \dot u \kappa) \right),$$

$$\dot\kappa = m(u \dot g)
  + r \left( m(\dot x g) - m(w \dot x) \, m(g) - m(w u \dot x) \, \kappa \right).$$

The numbers that count receive what all numbers sent to mean and variance. With $w = 1$ this is the above;
with $w = 0$ mean and variance are constants from elsewhere: $\dot u = r \dot x$ and $\bar x = s g$.

Standardising, $P$, the means and the combination are kernels of `mltk.ops.kernels.Kernels`.
"""

from __future__ import annotations

from typing import NamedTuple

from mltk.ops.kernels import Kernels, kernels_of
from mltk.tree import Array


class Standardized(NamedTuple):
    """Standardised numbers and what their derivatives need.

    Attributes:
        u: The standardised numbers.
        r: Reciprocal standard deviation, with the set's axes kept at extent one.
        axes: The axes of the set; the first of them is that of the examples.
        rows: How many examples, from the first on, mean and variance come from: ``None`` for all of them, 0
            where they are constants.
    """

    u: Array
    r: Array
    axes: tuple[int, ...]
    rows: int | None = None


def standardize(x: Array, axes: tuple[int, ...], eps: float, *, rows: int | None = None) -> Standardized:
    """Standardise over the given axes, by the mean and variance of all examples or of the first ``rows``."""
    if rows is None:
        return Standardized(*kernels_of(x).standardize(x, axes, eps), axes)
    mean, variance = moments(_first(x, axes, rows), axes)
    return standardize_by(x, axes, mean, variance, eps)._replace(rows=rows)


def standardize_by(x: Array, axes: tuple[int, ...], mean: Array, variance: Array, eps: float) -> Standardized:
    """Standardise by a given mean and variance."""
    r = 1 / kernels_of(x).xp.sqrt(variance + eps)
    return Standardized((x - mean) * r, r, axes, rows=0)


def moments(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and variance over axes that are kept at extent one."""
    kernels = kernels_of(x)
    mean = kernels.mean(x, axes)
    centred = x - mean
    return mean, kernels.mean(centred, axes, times=centred)


def tangent(s: Standardized, dx: Array) -> Array:
    """The tangent of ``u`` along ``dx``, where all examples count."""
    return kernels_of(dx).project(s.u, dx, s.r, s.axes)[0]


def tangent_of_scaled(
    s: Standardized, factor: Array, dfactor: Array, dx: Array | None, constant: Array
) -> Array:
    """``constant`` plus the tangent of ``factor u``."""
    kernels = kernels_of(s.u)
    if dx is None:
        return kernels.combine(constant, [(dfactor, s.u)])
    scale = factor * s.r
    if s.rows == 0:
        return kernels.combine(constant, [(scale, dx), (dfactor, s.u)])
    mean, slope = _means_of_counted(kernels, s, dx)
    return kernels.combine(constant - scale * mean, [(scale, dx), (dfactor - scale * slope, s.u)])


def pullback(s: Standardized, g: Array, factor: Array | float) -> tuple[Array, Array, Array]:
    """The pullback of ``g`` times a factor, with the means of ``u g`` and ``g``."""
    kernels, scale = kernels_of(g), factor * s.r
    if s.rows is None:
        gx, mean, slope = kernels.project(s.u, g, scale, s.axes)
        return gx, slope, mean
    mean, slope = kernels.means(g, s.u, s.axes)
    if s.rows == 0:
        return scale * g, slope, mean
    share = -scale * _weight(s, g)
    return kernels.combine(share * mean, [(scale, g), (share * slope, s.u)]), slope, mean


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
    if s.rows == 0:
        if dx is not None:
            dslope += r * kernels.means(g, dx, axes)[1]
        return kernels.combine(0, [(scale, dg), (dscale, g)]), dslope, dmean
    weight = 1 if s.rows is None else _weight(s, g)
    terms = [(scale, dg)]
    of_du_to_u, of_du = 0, 0
    if dx is not None:
        mean_dx, slope_dx = _means_of_counted(kernels, s, dx)
        dslope += r * (kernels.means(g, dx, axes)[1] - mean_dx * mean - slope_dx * slope)
        dscale = dscale - scale * r * slope_dx
        toward_dx = -scale * r * slope
        terms.append((weight * toward_dx, dx))
        of_du_to_u, of_du = toward_dx * slope_dx, toward_dx * mean_dx
    terms += [(dscale, g), (-weight * (dscale * slope + scale * dslope + of_du_to_u), u)]
    return kernels.combine(-weight * (dscale * mean + scale * dmean + of_du), terms), dslope, dmean


def _first(x: Array, axes: tuple[int, ...], rows: int) -> Array:
    """The first examples."""
    return x[(..., slice(0, rows), *[slice(None)] * (-1 - axes[0]))]


def _means_of_counted(kernels: Kernels, s: Standardized, dx: Array) -> tuple[Array, Array]:
    r"""$m(w \dot x)$ and $m(w u \dot x)$: means over the examples that count."""
    if s.rows is None:
        return kernels.means(dx, s.u, s.axes)
    return kernels.means(_first(dx, s.axes, s.rows), _first(s.u, s.axes, s.rows), s.axes)


def _weight(s: Standardized, like: Array) -> Array:
    """The weight ``w`` of each example, shaped to multiply the numbers."""
    xp, count = kernels_of(like).xp, like.shape[s.axes[0]]
    places = xp.arange(count, device=like.device)
    weight = xp.astype(places < s.rows, like.dtype) * (count / s.rows)
    return xp.reshape(weight, (count, *[1] * (-1 - s.axes[0])))
