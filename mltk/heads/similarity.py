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
"""

from __future__ import annotations

from typing import NamedTuple

from mltk.backend import common_backend
from mltk.errors import ShapeError
from mltk.ops.kernels import kernels_of
from mltk.tree import Array


def pairwise_sqeuclidean(a: Array, b: Array) -> Array:
    """Squared Euclidean distances between two sets of vectors.

    Args:
        a: Vectors ``(..., M, d)``, of any backend.
        b: Vectors ``(..., N, d)``; leading axes broadcast.

    Returns:
        Distances ``(..., M, N)``, none negative.

    Raises:
        ShapeError: If the arrays are not of this form.
        MismatchError: If they differ in library, device or dtype.
    """
    _check(a, b)
    return sqeuclidean(*centred(a, b))


def pairwise_cosine_similarity(a: Array, b: Array) -> Array:
    """Cosines of the angles between two sets of vectors; zero, with zero derivative, for zero vectors.

    Args:
        a: Vectors ``(..., M, d)``, of any backend.
        b: Vectors ``(..., N, d)``; leading axes broadcast.

    Returns:
        Similarities ``(..., M, N)``.

    Raises:
        ShapeError: If the arrays are not of this form.
        MismatchError: If they differ in library, device or dtype.
    """
    _check(a, b)
    return normalize(a).unit @ normalize(b).unit.mT


def centred(a: Array, b: Array) -> tuple[Array, Array]:
    """Both sets with the mean of ``b`` subtracted."""
    xp = kernels_of(b).xp
    mean = xp.mean(b, axis=-2, keepdims=True)
    return a - mean, b - mean


def sqeuclidean(a: Array, b: Array) -> Array:
    """Squared distances of vectors that lie around zero."""
    xp = kernels_of(a).xp
    squares = xp.sum(a * a, axis=-1)[..., :, None] + xp.sum(b * b, axis=-1)[..., None, :]
    return xp.maximum(squares - 2 * (a @ b.mT), 0)


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
        reciprocal: One over their length before, ``(..., N, 1)``; zero for a zero vector.
    """

    unit: Array
    reciprocal: Array


def normalize(x: Array) -> Unit:
    """Vectors divided by their length: by the largest entry first, so that no square over- or underflows."""
    xp = kernels_of(x).xp
    largest = xp.max(xp.abs(x), axis=-1, keepdims=True)
    zero = largest < xp.finfo(x.dtype).smallest_normal
    ones = xp.ones_like(largest)
    scaled = xp.where(zero, xp.zeros_like(x), x / xp.where(zero, ones, largest))
    length = xp.sqrt(xp.sum(scaled * scaled, axis=-1, keepdims=True) + xp.astype(zero, x.dtype))
    reciprocal = xp.where(zero, xp.zeros_like(largest), ones / (xp.where(zero, ones, largest) * length))
    return Unit(scaled / length, reciprocal)


def normalize_pullback(x: Unit, g: Array) -> Array:
    """The cotangent of the vectors from that of the unit vectors."""
    xp = kernels_of(g).xp
    return x.reciprocal * (g - x.unit * xp.sum(x.unit * g, axis=-1, keepdims=True))


def cosine_pullback(a: Unit, b: Unit, g: Array) -> tuple[Array, Array]:
    """The cotangents of both sets from that of their cosine similarities."""
    return normalize_pullback(a, g @ b.unit), normalize_pullback(b, g.mT @ a.unit)


def _check(a: Array, b: Array) -> None:
    common_backend(a=[a], b=[b])
    for name, array in (("a", a), ("b", b)):
        if array.ndim < 2:
            raise ShapeError(f"{name} has shape {tuple(array.shape)}; expected vectors (..., N, d)")
    if a.shape[-1] != b.shape[-1]:
        raise ShapeError(
            f"b holds vectors of {b.shape[-1]} numbers; expected {a.shape[-1]} as in a, "
            f"which has shape {tuple(a.shape)}"
        )
