"""Kernels: the few inner computations that a backend may replace by its library's fastest version.

A kernel is a plain function of arrays with no derivative of its own; the rules of `mltk.ops` are written on
top and never change. `Kernels` holds the versions that run on any library of the Array API standard.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from array_api_compat import array_namespace

from mltk.errors import BackendError
from mltk.ops.image_kernels import ImageKernels
from mltk.plugins import load
from mltk.tree import Array


class Kernels(ImageKernels):
    """Kernels in the Array API standard alone; a backend subclasses and registers its own.

    Attributes:
        xp: The namespace of the arrays.
    """

    def __init__(self, xp: Any) -> None:
        self.xp = xp

    def at_least(self, x: Array, least: float) -> Array:
        """What lies below a bound raised to it."""
        return self.xp.maximum(x, least)

    def relu(self, x: Array) -> tuple[Array, Array]:
        """``max(x, 0)`` and its slope, 1 where ``x > 0`` and else 0."""
        return self.xp.maximum(x, 0), self.xp.astype(x > 0, x.dtype)

    def root(self, x: Array) -> Array:
        """The square root, whose slope at zero counts as zero where autograd asks for it."""
        return self.xp.sqrt(x)

    def as_array(self, result: Array) -> Array:
        """A result, as an array with its history: NumPy gives scalars for results without axes."""
        return self.xp.asarray(result)

    def affine(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """``x @ weight.mT + bias`` for rows ``(..., N, in)``; one product where tasks share the weight."""
        if weight.ndim == 2 and x.ndim > 2:
            rows = self.xp.reshape(x, (-1, x.shape[-1])) @ weight.mT
            y = self.xp.reshape(rows, (*x.shape[:-1], weight.shape[0]))
        else:
            y = self.product(x, weight.mT)
        if bias is not None:
            y += bias[..., None, :]
        return y

    def product(self, rows: Array, matrix: Array) -> Array:
        """``rows @ matrix``."""
        return rows @ matrix

    def sum(
        self, x: Array, axes: tuple[int, ...], *, times: Array | None = None, keepdims: bool = False
    ) -> Array:
        """The sum of ``x``, or of its product with an array ``times`` of the same shape, over some axes."""
        return self.xp.sum(x if times is None else x * times, axis=axes, keepdims=keepdims)

    def mean(self, x: Array, axes: tuple[int, ...], *, times: Array | None = None) -> Array:
        """The mean of ``x``, or of its product with ``times``, over axes that are kept at extent one."""
        return self.sum(x, axes, times=times, keepdims=True) / math.prod(x.shape[axis] for axis in axes)

    def means(self, g: Array, u: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
        """The means ``m(g)`` and ``m(u g)``, with ``axes`` kept."""
        return self.mean(g, axes), self.mean(g, axes, times=u)

    def combine(self, constant: Array, terms: Iterable[tuple[Array, Array]]) -> Array:
        """``constant + Σ factor · array`` over the pairs, where the factors and the constant broadcast."""
        total: Array = 0
        for factor, array in terms:
            total += factor * array
        total += constant
        return total

    def standardize(self, x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array]:
        """Standardised numbers and reciprocal standard deviation: see `mltk.ops.standardization`."""
        centred = x - self.mean(x, axes)
        r = 1 / self.xp.sqrt(self.mean(centred, axes, times=centred) + eps)
        return centred * r, r

    def project(self, u: Array, g: Array, s: Array, axes: tuple[int, ...]) -> tuple[Array, Array, Array]:
        """``s ⊙ P g`` with ``P g = g - m(g) - u m(u g)``, and the means ``m(g)`` and ``m(u g)``.

        ``s`` and the means have extent one along ``axes``.
        """
        mean, kappa = self.means(g, u, axes)
        return self.combine(-s * mean, [(s, g), (-s * kappa, u)]), mean, kappa

    def magic_box(self, x: Array) -> Array:
        """Ones, whose derivatives are those of ``exp(x)`` over its value; NaN where ``x`` is not finite."""
        return 1 + (x - x)

    def shows_non_finite(self, x: Array) -> bool:
        """Whether ``x`` holds NaN or infinity, and that can be seen without waiting for a device."""
        return "cpu" in str(x.device).lower() and not bool(self.xp.all(self.xp.isfinite(x)))

    def cholesky(self, a: Array) -> Array:
        """The lower Cholesky factors of symmetric matrices ``(..., n, n)``.

        Backends give NaN for a matrix that is not positive definite, so that it shows in the loss, as
        overflow does, with the step of training where it happened.
        """
        return self.xp.linalg.cholesky(a)

    def cholesky_solve(self, factor: Array, b: Array) -> Array:
        """The solutions ``(..., n, k)`` of systems of which `cholesky` gave the factors ``(..., n, n)``."""
        return self.xp.linalg.solve(factor.mT, self.xp.linalg.solve(factor, b))


_registered: dict[str, type[Kernels]] = {}
_of_type: dict[type, Kernels] = {}


def library_of(array: Array) -> str:
    """The name of the library that an array belongs to: ``"numpy"``, ``"torch"``, ``"array_api_strict"``.

    Raises:
        TypeError: If it is not an array.
    """
    name: str = array_namespace(array).__name__
    return name.removeprefix("array_api_compat.").split(".")[0]


def register(library: str, kernels: type[Kernels]) -> None:
    """Let ``kernels`` serve the arrays of a library from now on."""
    _registered[library] = kernels
    _of_type.clear()


def kernels_of(array: Array) -> Kernels:
    """The kernels, with their namespace ``xp``, for the library that an array belongs to.

    They are those of the library's installed backend, or else the generic ones.

    Raises:
        TypeError: If it is not an array.
    """
    found = _of_type.get(type(array))
    if found is None:
        library = library_of(array)
        if library not in _registered:
            with suppress(BackendError):  # there is none, or it is of another version of the library
                load(library)
        found = _registered.get(library, Kernels)(array_namespace(array))
        _of_type[type(array)] = found
    return found
