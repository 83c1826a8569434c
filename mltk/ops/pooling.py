"""Pooling: summaries of image windows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from mltk.errors import SettingError
from mltk.ops.convolution import Pixels, window_of
from mltk.ops.image_kernels import Window
from mltk.ops.kernels import kernels_of
from mltk.ops.linear_map import LinearMap, check_images
from mltk.ops.operation import Pulled, Residuals
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class Windowed(LinearMap):
    """What poolings by windows share.

    Attributes:
        kernel_size: Height and width of a window; one number for both.
        stride: How far windows are apart; ``None`` for their own size.
        padding: How wide the border is that is added, at most half a window.
    """

    kernel_size: Pixels
    stride: Pixels | None = None
    padding: Pixels = 0

    def __post_init__(self) -> None:
        _ = self.window

    @cached_property
    def window(self) -> Window:
        """The window, with its stride and border."""
        stride = self.kernel_size if self.stride is None else self.stride
        window = window_of(self.kernel_size, stride, self.padding)
        if any(2 * border > extent for border, extent in zip(window.padding, window.size, strict=True)):
            raise SettingError(
                f"padding of a pooling window is {window.padding}; expected at most half of {window.size}"
            )
        return window


@dataclass(frozen=True)
class MaxPool(Windowed):
    """The largest pixel of each window, per channel.

    $A$ picks the largest pixel of each window, the first in reading order among equals (as Torch does). The
    border that ``padding`` adds is never picked. Input ``(..., N, C, H, W)``. The settings are those of
    `Windowed`.
    """

    def forward(self, p: Tree, x: Array) -> tuple[Array, tuple[Array, tuple[int, int]]]:
        check_images(self, x)
        y, which = kernels_of(x).max_pool2d(x, self.window)
        return y, (which, x.shape[-2:])

    def jvp(self, p: Tree, res: Residuals, dp: Tree, dx: Array | None) -> Array:
        return kernels_of(dx).take_from_windows(dx, res[0], self.window)

    def vjp(self, p: Tree, res: Residuals, gy: Array, *, wrt_input: bool = True) -> Pulled:
        return {}, kernels_of(gy).put_into_windows(gy, res[0], self.window, res[1])


@dataclass(frozen=True)
class AveragePool(Windowed):
    """The mean of each window, per channel; the border that ``padding`` adds counts as zeros.

    Input ``(..., N, C, H, W)``. The settings are those of `Windowed`.
    """

    def forward(self, p: Tree, x: Array) -> tuple[Array, tuple[int, int]]:
        check_images(self, x)
        return self.jvp(p, None, {}, x), x.shape[-2:]

    def jvp(self, p: Tree, res: Residuals, dp: Tree, dx: Array | None) -> Array:
        return kernels_of(dx).sum_windows(dx, self.window) / math.prod(self.window.size)

    def vjp(self, p: Tree, res: tuple[int, int], gy: Array, *, wrt_input: bool = True) -> Pulled:
        share = gy / math.prod(self.window.size)
        return {}, kernels_of(gy).spread_windows(share, self.window, res)


@dataclass(frozen=True)
class GlobalAveragePool(LinearMap):
    """The mean over all pixels of each channel: ``(..., N, C, H, W)`` to ``(..., N, C)``."""

    example_axes = 3
    output_axes = 1

    def forward(self, p: Tree, x: Array) -> tuple[Array, tuple[int, ...]]:
        check_images(self, x)
        return self.jvp(p, None, {}, x), x.shape

    def jvp(self, p: Tree, res: Residuals, dp: Tree, dx: Array | None) -> Array:
        return kernels_of(dx).xp.mean(dx, axis=(-2, -1))

    def vjp(self, p: Tree, res: tuple[int, ...], gy: Array, *, wrt_input: bool = True) -> Pulled:
        share = gy[..., None, None] / (res[-2] * res[-1])
        return {}, kernels_of(gy).xp.broadcast_to(share, (*gy.shape, *res[-2:]))
