"""The NumPy backend: hand-derived derivatives on one CPU, the reference."""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import array_api_compat.numpy
import numpy as np

from mltk.checks import did_you_mean
from mltk.engines.analytic import AnalyticEngine
from mltk.errors import ArrayError, SettingError
from mltk.ops.kernels import Kernels, kernels_of, register
from mltk.plain_arrays import check_plain
from mltk.tree import Array

from .images import NumpyImageKernels


class NumpyKernels(NumpyImageKernels, Kernels):
    """NumPy's fastest versions."""

    def affine(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """See `Kernels.affine`: with one feature, the bias is a second one of the same product."""
        if weight.ndim < x.ndim:
            return super().affine(x, weight, bias)
        if bias is None:
            return self.product(x, weight.mT)
        if x.shape[-1] > 1:
            y = x @ weight.mT
            y += bias[..., None, :]
            return y
        # The rows are (x, 1), and the matrix holds the weight and, below it, the bias.
        rows = np.empty((*x.shape[:-1], 2), x.dtype)
        rows[..., :1] = x
        rows[..., 1] = 1
        matrix = np.empty((*weight.shape[:-2], 2, weight.shape[-2]), weight.dtype)
        matrix[..., 0, :] = weight[..., 0]
        matrix[..., 1, :] = bias
        return rows @ matrix

    def product(self, rows: Array, matrix: Array) -> Array:
        """See `Kernels.product`: `numpy.matmul` is slow at outer products."""
        if rows.shape[-1] == 1:
            return np.einsum("...ni,...ik->...nk", rows, matrix)
        return rows @ matrix

    def relu(self, x: Array) -> tuple[Array, Array]:
        """See `Kernels.relu`."""
        return np.maximum(x, 0), (x > 0).astype(x.dtype)

    def sum(
        self,
        x: Array,
        axes: tuple[int, ...],
        *,
        times: Array | None = None,
        keepdims: bool = False,
    ) -> Array:
        """See `Kernels.sum`: `numpy.einsum` needs one pass, in any memory order, and no product in memory."""
        # Where the summed axis is followed by others, the sum is a product with ones: with 5 to 1,024 rows
        # of 1 to 256 numbers in float32 that takes 0.4 to 1.0 of einsum's time.
        if times is None and axes == (-2,):
            total = _ones(x.shape[-2], x.dtype) @ x
            return total if keepdims else total[..., 0, :]
        if times is None and axes == (0,) and not keepdims and x.flags.c_contiguous:
            return (_ones(len(x), x.dtype) @ x.reshape(len(x), -1)).reshape(x.shape[1:])
        letters, left, kept = _summation(x.ndim, axes)
        if times is None:
            total = np.einsum(f"{letters}->{left}", x)
        else:
            total = np.einsum(f"{letters},{letters}->{left}", x, times)
        return total[kept] if keepdims else total

    def combine(self, constant: Array, terms: Iterable[tuple[Array, Array]]) -> Array:
        """See `Kernels.combine`; one array holds each product in turn."""
        (factor, array), *others = terms
        total = factor * array
        product = None
        for factor, array in others:
            product = np.multiply(factor, array, out=product)
            total += product
        total += constant
        return total

    def standardize(self, x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array]:
        """See `Kernels.standardize`."""
        u = x - self.mean(x, axes)
        r = 1 / np.sqrt(self.mean(u, axes, times=u) + eps)
        u *= r
        return u, r

    def cholesky(self, a: Array) -> Array:
        """See `Kernels.cholesky`."""
        try:
            return np.linalg.cholesky(a)
        except np.linalg.LinAlgError:  # somewhere in the batch
            return np.stack([_cholesky_or_nan(each) for each in _matrices(a)]).reshape(a.shape)

    def cholesky_solve(self, factor: Array, b: Array) -> Array:
        """See `Kernels.cholesky_solve`: NumPy has no triangular solve, and LAPACK's takes microseconds."""
        try:
            from scipy.linalg import get_lapack_funcs
        except ModuleNotFoundError:
            return np.linalg.solve(factor.mT, np.linalg.solve(factor, b))
        potrs = get_lapack_funcs("potrs", (factor, b))
        solutions = np.array(b, order="C")
        for one, solution in zip(_matrices(factor), _matrices(solutions), strict=True):
            # LAPACK counts by columns: the transpose, an upper factor, is what it finds there without a copy.
            solution[...] = potrs(one.T, solution, lower=False)[0]
        return solutions


def _matrices(a: Array) -> Array:
    return a.reshape(-1, *a.shape[-2:])


def _cholesky_or_nan(matrix: Array) -> Array:
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return np.full_like(matrix, np.nan)


@cache
def _ones(count: int, dtype: np.dtype[Any]) -> Array:
    ones = np.ones((1, count), dtype)
    ones.flags.writeable = False
    return ones


@cache
def _summation(ndim: int, axes: tuple[int, ...]) -> tuple[str, str, tuple[Any, ...]]:
    """Letters of all axes and of those that are left, and the index that gives the others back."""
    letters = string.ascii_letters[:ndim]
    summed = {letters[axis] for axis in axes}
    left = "".join(letter for letter in letters if letter not in summed)
    return letters, left, tuple(None if letter in summed else slice(None) for letter in letters)


register("numpy", NumpyKernels)


@dataclass(frozen=True)
class NumpyBackend:
    """See `mltk.contracts.Backend`."""

    dtype: str = "float32"
    name: str = "numpy"
    device: str = "cpu"
    engine: AnalyticEngine = field(default_factory=AnalyticEngine)

    @property
    def xp(self) -> Any:
        """The namespace; no field, since modules cannot be pickled."""
        return array_api_compat.numpy

    @property
    def kernels(self) -> Kernels:
        """The kernels of NumPy arrays."""
        return kernels_of(np.empty(0))

    def asarray(self, values: Any) -> np.ndarray:
        """See `mltk.contracts.Backend.asarray`."""
        check_plain("values", values)
        try:
            array = np.asarray(values)
        except (TypeError, ValueError, RuntimeError) as error:
            found = type(values).__name__
            raise ArrayError(f"values is a {found} that NumPy cannot convert: {error}") from None
        if array.dtype.kind not in "biufc":
            raise ArrayError(f"values has dtype {array.dtype}; expected numbers")
        return array.astype(self.dtype, copy=False) if array.dtype.kind == "f" else array

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        """See `mltk.contracts.Backend.to_numpy`."""
        return np.asarray(array)

    def owns(self, array: Any) -> bool:
        """See `mltk.contracts.Backend.owns`."""
        return (
            isinstance(array, np.ndarray | np.generic)
            and (type(array) is np.ndarray or not _is_peculiar(array))
            and (array.dtype.kind != "f" or array.dtype == self.dtype)
        )


def _is_peculiar(array: Any) -> bool:
    """Whether an array of NumPy is one of the kinds that `mltk.plain_arrays.check_plain` refuses."""
    return isinstance(array, np.ndarray) and isinstance(array, np.matrix | np.ma.MaskedArray)


def create(*, device: str | None, dtype: str, engine: str | None) -> NumpyBackend:
    """Make the backend; the entry point of `mltk.backend`.

    Raises:
        SettingError: If a device other than the CPU, or another engine than the analytic one, is asked for.
    """
    if device not in (None, "cpu"):
        raise SettingError(f'device is {device!r}; the numpy backend has only "cpu"')
    if engine not in (None, "analytic"):
        hint = did_you_mean(engine, ["analytic"])
        raise SettingError(f'engine is {engine!r}; the numpy backend has only "analytic"{hint}')
    return NumpyBackend(dtype=dtype)
