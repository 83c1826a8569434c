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

`tangent_of_pullback` computes $\dot{\bar x}$ with $\dot u$ and $\dot s = \dot\gamma r - s r \, m(w u \dot x)$
written out, as a combination of four arrays and a constant. Its five factors are made of means, so that few
passes over the arrays are enough; in the code they are `s`, `ds`, `of_dx`, `of_u` and `constant`:

$$\dot{\bar x} = s \, \dot g + \dot s \, g - w s r \kappa \, \dot x
  - w \left( \dot s \kappa + s \dot\kappa - s r \kappa \, m(w u \dot x) \right) u
  - w \left( \dot s \, m(g) + s \, m(\dot g) - s r \kappa \, m(w \dot x) \right).$$

There `kappa` is $\kappa$, `mean` is $m(g)$, and a `d` in front makes tangents of them: `dkappa`, `dmean`.

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


def tangent(at: Standardized, dx: Array) -> Array:
    """The tangent of ``u`` along ``dx``, where all examples count."""
    return kernels_of(dx).project(at.u, dx, at.r, at.axes)[0]


def tangent_of_scaled(
    at: Standardized, factor: Array, dfactor: Array, dx: Array | None, constant: Array
) -> Array:
    """``constant`` plus the tangent of ``factor u``."""
    kernels = kernels_of(at.u)
    if dx is None:
        return kernels.combine(constant, [(dfactor, at.u)])
    s = factor * at.r
    if at.rows == 0:
        return kernels.combine(constant, [(s, dx), (dfactor, at.u)])
    m_dx, m_udx = _means_of_counted(kernels, at, dx)
    return kernels.combine(constant - s * m_dx, [(s, dx), (dfactor - s * m_udx, at.u)])


def pullback(at: Standardized, g: Array, factor: Array | float) -> tuple[Array, Array, Array]:
    r"""The pullback of ``g`` times a factor, with the means $\kappa = m(u g)$ and $m(g)$."""
    kernels, s = kernels_of(g), factor * at.r
    if at.rows is None:
        gx, mean, kappa = kernels.project(at.u, g, s, at.axes)
        return gx, kappa, mean
    mean, kappa = kernels.means(g, at.u, at.axes)
    if at.rows == 0:
        return s * g, kappa, mean
    share = -s * _weight(at, g)
    return kernels.combine(share * mean, [(s, g), (share * kappa, at.u)]), kappa, mean


def tangent_of_pullback(
    at: Standardized, g: Array, factor: Array | float, dg: Array, dfactor: Array | float, dx: Array | None
) -> tuple[Array, Array, Array]:
    """The tangents of all that `pullback` returns along ``(dg, dfactor, dx)``: the five factors above."""
    kernels, u, r, axes = kernels_of(g), at.u, at.r, at.axes
    mean, kappa = kernels.means(g, u, axes)
    dmean, dkappa = kernels.means(dg, u, axes)
    s, ds = factor * r, dfactor * r
    if at.rows == 0:
        if dx is not None:
            dkappa += r * kernels.means(g, dx, axes)[1]
        return kernels.combine(0, [(s, dg), (ds, g)]), dkappa, dmean
    w = 1 if at.rows is None else _weight(at, g)
    if dx is None:
        terms = [(s, dg), (ds, g), (-w * (ds * kappa + s * dkappa), u)]
        return kernels.combine(-w * (ds * mean + s * dmean), terms), dkappa, dmean
    m_dx, m_udx = _means_of_counted(kernels, at, dx)
    dkappa += r * (kernels.means(g, dx, axes)[1] - m_dx * mean - m_udx * kappa)
    ds = ds - s * r * m_udx
    srk = s * r * kappa
    of_dx = -w * srk
    of_u = -w * (ds * kappa + s * dkappa - srk * m_udx)
    constant = -w * (ds * mean + s * dmean - srk * m_dx)
    return kernels.combine(constant, [(s, dg), (ds, g), (of_dx, dx), (of_u, u)]), dkappa, dmean


def _first(x: Array, axes: tuple[int, ...], rows: int) -> Array:
    """The first examples."""
    return x[(..., slice(0, rows), *[slice(None)] * (-1 - axes[0]))]


def _means_of_counted(kernels: Kernels, at: Standardized, dx: Array) -> tuple[Array, Array]:
    r"""$m(w \dot x)$ and $m(w u \dot x)$: means over the examples that count."""
    if at.rows is None:
        return kernels.means(dx, at.u, at.axes)
    return kernels.means(_first(dx, at.axes, at.rows), _first(at.u, at.axes, at.rows), at.axes)


def _weight(at: Standardized, like: Array) -> Array:
    """The weight ``w`` of each example, shaped to multiply the numbers."""
    xp, count = kernels_of(like).xp, like.shape[at.axes[0]]
    places = xp.arange(count, device=like.device)
    weight = xp.astype(places < at.rows, like.dtype) * (count / at.rows)
    return xp.reshape(weight, (count, *[1] * (-1 - at.axes[0])))
