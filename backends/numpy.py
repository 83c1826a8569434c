"""The NumPy backend: hand-derived derivatives on one CPU, the reference."""

from __future__ import annotations

import math
import string
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache, reduce
from typing import Any

import array_api_compat.numpy
import numpy as np
from numpy.lib.stride_tricks import as_strided

from mltk.checks import did_you_mean
from mltk.engines.analytic import AnalyticEngine
from mltk.errors import ArrayError, SettingError
from mltk.ops.kernels import Kernels, Window, kernels_of, register
from mltk.plain_arrays import check_plain
from mltk.tree import Array


class NumpyKernels(Kernels):
    """NumPy's fastest versions.

    A convolution is one matrix product: the pixels of all windows times the weight. Images keep their axes
    ``(..., N, C, H, W)``, but convolutions return them with the channels of a pixel side by side in memory,
    so that windows are copied in long runs; functions of single elements keep that order.
    """

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

    def conv2d(self, x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
        """See `Kernels.conv2d`."""
        places = window.places(x.shape[-2:])
        rows = np.moveaxis(weight, -3, -1)
        y = _correlate(_padded(x, window), rows.reshape(*rows.shape[:-3], -1).mT, window, places)
        if bias is not None:
            y += bias[..., None, :, None, None]
        return y

    def conv2d_input_gradient(
        self, gy: Array, weight: Array, window: Window, image: tuple[int, int]
    ) -> Array:
        """See `Kernels.conv2d_input_gradient`.

        It is the correlation of ``gy``, spread out by the stride, with the weight turned by 180°.
        """
        (height, width), (top, left) = window.size, window.padding
        if top >= height or left >= width:
            return super().conv2d_input_gradient(gy, weight, window, image)
        spread = _spread(
            gy,
            (height - 1 - top, width - 1 - left),
            window.stride,
            (image[0] + height - 1, image[1] + width - 1),
        )
        turned = np.moveaxis(weight[..., ::-1, ::-1], (-2, -1), (-4, -3))
        matrix = turned.reshape(*turned.shape[:-4], -1, turned.shape[-1])
        return _correlate(spread, matrix, Window(window.size, (1, 1), (0, 0)), image)

    def conv2d_weight_gradient(self, x: Array, gy: Array, window: Window) -> Array:
        """See `Kernels.conv2d_weight_gradient`."""
        pixels = _pixels(_padded(x, window), window, gy.shape[-2:])
        rows = np.moveaxis(gy, -3, -1).reshape(*gy.shape[:-4], -1, gy.shape[-3])
        weight = rows.mT @ pixels
        return np.moveaxis(weight.reshape(*weight.shape[:-1], *window.size, x.shape[-3]), -1, -3)

    def max_pool2d(self, x: Array, window: Window) -> tuple[Array, Array]:
        """See `Kernels.max_pool2d`; where windows are tiles, a mask marks the largest pixels."""
        if not _is_tiling(window):
            return super().max_pool2d(x, window)
        tiles = _tiles(x, window)
        best = reduce(np.maximum, _taps(tiles))
        mask = np.empty_like(tiles)
        free = np.ones_like(best, dtype=bool)
        for pixels, places in zip(_taps(tiles), _taps(mask), strict=True):
            largest = pixels == best
            largest &= free
            free ^= largest
            places[...] = largest
        return best, mask

    def take_from_windows(self, x: Array, which: Array, window: Window) -> Array:
        """See `Kernels.take_from_windows`."""
        if not _is_tiling(window):
            return super().take_from_windows(x, which, window)
        return reduce(np.add, _taps(which * _tiles(x, window)))

    def put_into_windows(self, gy: Array, which: Array, window: Window, image: tuple[int, int]) -> Array:
        """See `Kernels.put_into_windows`."""
        if not _is_tiling(window):
            return super().put_into_windows(gy, which, window, image)
        tiles = which * gy[..., :, None, :, None]
        height, width = gy.shape[-2] * window.size[0], gy.shape[-1] * window.size[1]
        covered = tiles.reshape(*gy.shape[:-2], height, width)
        if (height, width) == tuple(image):
            return covered
        return _spread(covered, (0, 0), (1, 1), image)

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
        if times is None and axes == (-2,) and x.shape[-2] <= FEW_EXAMPLES:
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
            solution[...] = potrs(one.T, solution, lower=False)[0]
        return solutions


FEW_CHANNELS = 8
"""Below this, windows are copied along rows of pixels rather than along channels."""

FEW_EXAMPLES = 256
"""Up to this, the sum over examples is a product with ones: the call itself is what takes the time."""


def _matrices(a: Array) -> Array:
    return a.reshape(-1, *a.shape[-2:])


def _cholesky_or_nan(matrix: Array) -> Array:
    try:
        return np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return np.full_like(matrix, np.nan)


def _spread(x: Array, start: tuple[int, int], step: tuple[int, int], size: tuple[int, int]) -> Array:
    """Pixels at ``start``, ``start + step``… of an image of zeros, in the memory order for `_pixels`."""
    batch, channels = x.shape[:-3], x.shape[-3]
    if channels < FEW_CHANNELS:
        image = np.zeros((*batch, channels, *size), x.dtype)
    else:
        image = np.moveaxis(np.zeros((*batch, *size, channels), x.dtype), -1, -3)
    image[..., start[0] :: step[0], start[1] :: step[1]][..., : x.shape[-2], : x.shape[-1]] = x
    return image


def _padded(x: Array, window: Window) -> Array:
    if window.padding == (0, 0):
        return x
    top, left = window.padding
    return _spread(x, window.padding, (1, 1), (x.shape[-2] + 2 * top, x.shape[-1] + 2 * left))


def _pixels(padded: Array, window: Window, places: tuple[int, int]) -> Array:
    """What each window sees: ``(..., N·h·w, kh·kw·C)``."""
    images = np.moveaxis(padded, -3, -1)
    *batch, rows, columns, channel = images.strides
    windows = as_strided(
        images,
        (*images.shape[:-3], *places, *window.size, images.shape[-1]),
        (*batch, rows * window.stride[0], columns * window.stride[1], rows, columns, channel),
        writeable=False,
    )
    leading, seen = images.shape[:-4], math.prod(windows.shape[-3:])
    if images.shape[-1] < FEW_CHANNELS:
        return np.moveaxis(windows, (-3, -2, -1), (-6, -5, -4)).reshape(*leading, seen, -1).mT
    return windows.reshape(*leading, -1, seen)


def _correlate(padded: Array, matrix: Array, window: Window, places: tuple[int, int]) -> Array:
    """Images from a product per window with a matrix ``(..., kh·kw·C, O)``, one product for all if shared."""
    images = padded.reshape(-1, *padded.shape[-3:]) if matrix.ndim == 2 else padded
    y = _pixels(images, window, places) @ matrix
    return np.moveaxis(y.reshape(*padded.shape[:-3], *places, matrix.shape[-1]), -1, -3)


def _is_tiling(window: Window) -> bool:
    return window.stride == window.size and window.padding == (0, 0)


def _tiles(x: Array, window: Window) -> Array:
    """A view ``(..., h, kh, w, kw)`` of the pixels that whole tiles cover."""
    (h, w), (kh, kw) = window.places(x.shape[-2:]), window.size
    return x[..., : h * kh, : w * kw].reshape(*x.shape[:-2], h, kh, w, kw)


def _taps(tiles: Array) -> list[Array]:
    """A view ``(..., h, w)`` for each place in a tile, in reading order."""
    return [tiles[..., i, :, j] for i in range(tiles.shape[-3]) for j in range(tiles.shape[-1])]


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
