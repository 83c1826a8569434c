r"""Similarities between all pairs of two sets of embeddings, and their pullbacks.

Squared Euclidean distance, $D_{ij} = \|a_i - b_j\|^2$, does not change when both sets move together, so the
mean of $b$ is subtracted first: the three terms $\|a_i\|^2 + \|b_j\|^2 - 2 a_i b_j$ then cancel less. With
the cotangent $G$ of $D$ and its row and column sums,

$$\bar a_i = 2 \Big( a_i \sum_j G_{ij} - \sum_j G_{ij} b_j \Big), \qquad
  \bar b_j = 2 \Big( b_j \sum_i G_{ij} - \sum_i G_{ij} a_i \Big).$$

Cosine similarity, $S_{ij} = \hat a_i \hat b_j$ with $\hat a = a / \|a\|$, and $\hat a = 0$, with the
derivative zero, for a zero vector:

$$\bar{\hat a} = G \hat b, \qquad
  \bar a = \frac{1}{\|a\|} \big( \bar{\hat a} - \hat a \langle \hat a, \bar{\hat a} \rangle \big).$$

It does not depend on the lengths, down to the smallest and up to the largest numbers: a vector is first
multiplied by a power of two, which rounds nothing away, so that no square over- or underflows. The power is a
constant: $\hat a$ does not change with it. Where $\bar a$ is too large for a number, it is infinite.
"""

from __future__ import annotations

from typing import NamedTuple

from mltk.ops.kernels import kernels_of
from mltk.tree import Array

STEPS = {32: 60, 64: 500}
"""The exponents of two that vectors are scaled by are multiples of these, by the bits of a number."""


def centred(a: Array, b: Array) -> tuple[Array, Array]:
    """Both sets with the mean of ``b`` subtracted."""
    xp = kernels_of(b).xp
    mean = xp.mean(b, axis=-2, keepdims=True)
    return a - mean, b - mean


def sqeuclidean(a: Array, b: Array) -> Array:
    """Squared distances of vectors that lie around zero."""
    kernels = kernels_of(a)
    xp = kernels.xp
    squares = xp.sum(a * a, axis=-1)[..., :, None] + xp.sum(b * b, axis=-1)[..., None, :]
    return kernels.at_least(squares - 2 * (a @ b.mT), 0)


def sqeuclidean_pullback(a: Array, b: Array, g: Array) -> tuple[Array, Array]:
    """The cotangents of both sets."""
    xp = kernels_of(a).xp
    ga = 2 * (a * xp.sum(g, axis=-1)[..., None] - g @ b)
    gb = 2 * (b * xp.sum(g, axis=-2)[..., None] - g.mT @ a)
    return ga, gb


class Unit(NamedTuple):
    """Vectors of length one.

    Attributes:
        unit: The vectors ``(..., N, d)``; zero for a zero vector.
        scale: The power of two that they were multiplied by first, ``(..., N, 1)``; zero for a zero vector.
        length: Their length after that, ``(..., N, 1)``; one for a zero vector.
    """

    unit: Array
    scale: Array
    length: Array


def normalize(x: Array) -> Unit:
    """Vectors divided by their length."""
    xp = kernels_of(x).xp
    scale, zero = _scale(x)
    scaled = x * scale
    length = xp.sqrt(xp.sum(scaled * scaled, axis=-1, keepdims=True) + zero)
    return Unit(scaled / length, scale, length)


def _scale(x: Array) -> tuple[Array, Array]:
    """Powers of two for vectors ``(..., N, d)``, and a one for each zero vector, else zero.

    The largest entry of a vector then has an exponent within half a step of zero.
    """
    xp = kernels_of(x).xp
    largest = xp.max(xp.abs(x), axis=-1, keepdims=True)
    step = STEPS[xp.finfo(x.dtype).bits]
    scale = xp.ones_like(largest)
    for edge in (0.5, 1.5):
        power = 2.0 ** ((edge + 0.5) * step)
        scale = xp.where(largest < 2.0 ** (-edge * step), power, scale)
        scale = xp.where(largest > 2.0 ** (edge * step), 1 / power, scale)
    zero = xp.astype(largest == 0, x.dtype)
    return scale * (1 - zero), zero


def normalize_pullback(x: Unit, g: Array) -> Array:
    """The cotangent of the vectors from that of the unit vectors."""
    xp = kernels_of(g).xp
    across = g - x.unit * xp.sum(x.unit * g, axis=-1, keepdims=True)
    return across / x.length * x.scale


def cosine_pullback(a: Unit, b: Unit, g: Array) -> tuple[Array, Array]:
    """The cotangents of both sets from that of their cosine similarities."""
    return normalize_pullback(a, g @ b.unit), normalize_pullback(b, g.mT @ a.unit)
