"""The kernels of images: convolution, its two gradients, and the pooling of windows.

Images are ``(..., N, C, H, W)``, convolution weights ``(O, C, kh, kw)`` or with the leading axes of the
images, and a window is described by a `Window`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import array_api_extra as xpx

from mltk.errors import ShapeError
from mltk.tree import Array


@dataclass(frozen=True)
class Window:
    """A window that slides over the two last axes of images.

    Attributes:
        size: Height and width in pixels.
        stride: Steps in pixels.
        padding: Border in pixels, added on both sides.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def places(self, image: tuple[int, ...]) -> tuple[int, int]:
        """How many places the window takes along each axis of an image of this size.

        Raises:
            ShapeError: If the padded image is smaller than the window.
        """
        places = tuple(
            (extent + 2 * padding - size) // stride + 1
            for extent, size, stride, padding in zip(image, self.size, self.stride, self.padding, strict=True)
        )
        if min(places) < 1:
            raise ShapeError(
                f"images of {image[0]}×{image[1]} pixels are too small for a window of "
                f"{self.size[0]}×{self.size[1]} with padding {self.padding}"
            )
        return places[0], places[1]

    def offsets(self, places: tuple[int, int]) -> Iterator[tuple[int, int, tuple[Any, ...]]]:
        """Each position in the window, with the index of the padded pixels that it sees."""
        for i in range(self.size[0]):
            for j in range(self.size[1]):
                rows = slice(i, i + self.stride[0] * (places[0] - 1) + 1, self.stride[0])
                columns = slice(j, j + self.stride[1] * (places[1] - 1) + 1, self.stride[1])
                yield i, j, (..., rows, columns)


class ImageKernels:
    """In the Array API standard alone: see `mltk.ops.kernels`.

    Attributes:
        xp: The namespace of the arrays.
    """

    xp: Any

    def conv2d(self, x: Array, weight: Array, bias: Array | None, window: Window) -> Array:
        """Cross-correlation plus bias: images ``(..., N, C, H, W)`` to ``(..., N, O, h, w)``."""
        places = window.places(x.shape[-2:])
        padded = self._pad(x, window)
        rows: Array = 0
        for i, j, seen in window.offsets(places):
            rows += weight[..., None, :, :, i, j] @ self._rows(padded[seen])
        y = self._images(rows, places)
        return y if bias is None else y + bias[..., None, :, None, None]

    def conv2d_input_gradient(
        self, gy: Array, weight: Array, window: Window, image: tuple[int, int]
    ) -> Array:
        """The adjoint of `conv2d` in ``x``: ``(..., N, O, h, w)`` to images of size ``image``."""
        rows = self._rows(gy)
        parts = (
            (seen, self._images(weight[..., None, :, :, i, j].mT @ rows, gy.shape[-2:]))
            for i, j, seen in window.offsets(gy.shape[-2:])
        )
        return self._scatter(parts, window, image)

    def conv2d_weight_gradient(self, x: Array, gy: Array, window: Window) -> Array:
        """The adjoint of `conv2d` in ``weight``: ``(..., O, C, kh, kw)``, summed over ``N``."""
        padded = self._pad(x, window)
        rows = self._rows(gy)
        taps = [
            self.xp.sum(rows @ self._rows(padded[seen]).mT, axis=-3)
            for _, _, seen in window.offsets(gy.shape[-2:])
        ]
        weight = self.xp.stack(taps, axis=-1)
        return self.xp.reshape(weight, (*weight.shape[:-1], *window.size))

    def max_pool2d(self, x: Array, window: Window) -> tuple[Array, Array]:
        """The largest pixel of each window and which one that is, the first of equals.

        In what form the second says so is the kernels' own affair, and understood by `take_from_windows` and
        `put_into_windows`.
        """
        places = window.places(x.shape[-2:])
        padded = self._pad(x, window, -self.xp.inf)
        best, which = None, None
        for tap, (_, _, seen) in enumerate(window.offsets(places)):
            pixels = padded[seen]
            if best is None:
                best, which = pixels, self.xp.zeros_like(pixels, dtype=self.xp.int32)
            else:
                larger = pixels > best
                best = self.xp.where(larger, pixels, best)
                which = self.xp.where(larger, tap, which)
        return best, which

    def take_from_windows(self, x: Array, which: Array, window: Window) -> Array:
        """Of each window the pixel that `max_pool2d` found to be the largest of another image."""
        padded = self._pad(x, window)
        taken: Array = 0
        for tap, (_, _, seen) in enumerate(window.offsets(which.shape[-2:])):
            taken += self.xp.where(which == tap, padded[seen], 0)
        return taken

    def put_into_windows(self, gy: Array, which: Array, window: Window, image: tuple[int, int]) -> Array:
        """The adjoint of `take_from_windows`: each value is added to its pixel."""
        parts = (
            (seen, self.xp.where(which == tap, gy, 0))
            for tap, (_, _, seen) in enumerate(window.offsets(which.shape[-2:]))
        )
        return self._scatter(parts, window, image)

    def sum_windows(self, x: Array, window: Window) -> Array:
        """The sum of the pixels of each window, the border counting as zero."""
        padded = self._pad(x, window)
        total: Array = 0
        for _, _, seen in window.offsets(window.places(x.shape[-2:])):
            total = total + padded[seen]
        return total

    def spread_windows(self, gy: Array, window: Window, image: tuple[int, int]) -> Array:
        """The adjoint of `sum_windows`: each value is added to all pixels of its window."""
        parts = ((seen, gy) for _, _, seen in window.offsets(gy.shape[-2:]))
        return self._scatter(parts, window, image)

    def _pad(self, x: Array, window: Window, value: float = 0) -> Array:
        if window.padding == (0, 0):
            return x
        width = [(0, 0)] * (x.ndim - 2) + [(padding, padding) for padding in window.padding]
        return xpx.pad(x, width, constant_values=value, xp=self.xp)

    def _rows(self, images: Array) -> Array:
        return self.xp.reshape(images, (*images.shape[:-2], images.shape[-2] * images.shape[-1]))

    def _images(self, rows: Array, size: tuple[int, int]) -> Array:
        return self.xp.reshape(rows, (*rows.shape[:-1], *size))

    def _scatter(
        self, parts: Iterator[tuple[tuple[Any, ...], Array]], window: Window, image: tuple[int, int]
    ) -> Array:
        """Add up parts at their places of the padded image and cut the border off."""
        top, left = window.padding
        padded: Array = None
        for seen, part in parts:
            if padded is None:
                shape = (*part.shape[:-2], image[0] + 2 * top, image[1] + 2 * left)
                padded = self.xp.zeros(shape, dtype=part.dtype, device=part.device)
            padded = xpx.at(padded)[seen].add(part, xp=self.xp)
        return padded[..., top : top + image[0], left : left + image[1]]
