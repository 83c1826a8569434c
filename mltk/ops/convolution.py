"""Two-dimensional convolution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mltk.checks import Checked, Count, Flag, check_count
from mltk.errors import SettingError
from mltk.ops.image_kernels import Window
from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Operation, Pulled, Tangent, unfit
from mltk.tree import Array, Tree

Pixels = int | tuple[int, int]
"""How many along both axes of an image, or along each."""


def window_of(kernel_size: Pixels, stride: Pixels, padding: Pixels) -> Window:
    """The window with these settings: one number for both axes of an image, or one each.

    Raises:
        SettingError: If one is neither.
    """
    size = _pair("kernel_size", kernel_size)
    return Window(size, _pair("stride", stride), _pair("padding", padding, least=0))


def _pair(name: str, value: Pixels, *, least: int = 1) -> tuple[int, int]:
    both = value if isinstance(value, tuple | list) else (value, value)
    if len(both) != 2:
        raise SettingError(f"{name} is {value!r}; expected an integer of at least {least}, or two")
    for each in both:
        check_count(name, each, at_least=least)
    return int(both[0]), int(both[1])


@dataclass(frozen=True)
class Convolution(Checked, Operation):
    r"""Two-dimensional convolution (cross-correlation, as everywhere in the field).

    $y = W * x + b$ is linear in $x$ and in $W$ apart. With the adjoints $\star$ in the input and
    $\circledast$ in the weight, $\langle \bar y, W * x \rangle = \langle W \star \bar y, x \rangle
    = \langle x \circledast \bar y, W \rangle$:

    $$\dot y = W * \dot x + \dot W * x + \dot b, \qquad
      \bar W = x \circledast \bar y, \quad \bar b = \textstyle\sum \bar y, \quad \bar x = W \star \bar y,$$

    $$\dot{\bar W} = x \circledast \dot{\bar y} + \dot x \circledast \bar y, \qquad
      \dot{\bar b} = \textstyle\sum \dot{\bar y}, \qquad
      \dot{\bar x} = W \star \dot{\bar y} + \dot W \star \bar y.$$

    Parameters: ``weight`` ``(out_channels, in_channels, kh, kw)`` and, if ``bias``, ``bias``
    ``(out_channels,)``; both start uniform in ±1/√(in_channels·kh·kw), Torch's default. Input
    ``(..., N, in_channels, H, W)``.

    Attributes:
        in_channels: Channels of an input.
        out_channels: Channels of an output.
        kernel_size: Height and width of the windows that the weight is laid on; one number for both.
        stride: How far windows are apart.
        padding: How many zeros are added at each border.
        bias: Whether there is a bias.
    """

    in_channels: Count
    out_channels: Count
    kernel_size: Pixels
    stride: Pixels = 1
    padding: Pixels = 0
    bias: Flag = True

    example_axes = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.window

    @cached_property
    def window(self) -> Window:
        """The window of the kernel."""
        return window_of(self.kernel_size, self.stride, self.padding)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {
            "weight": (self.out_channels, self.in_channels, *self.window.size)
        }
        if self.bias:
            shapes["bias"] = (self.out_channels,)
        return shapes

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        bound = 1 / math.sqrt(math.prod(self.shapes["weight"][1:]))
        return {name: rng.uniform(-bound, bound, shape) for name, shape in self.shapes.items()}

    def forward(self, p: Tree, x: Array) -> tuple[Array, Array]:
        if x.ndim < 4 or x.shape[-3] != self.in_channels:
            raise unfit(self, x, self.in_channels, "H", "W")
        return kernels_of(x).conv2d(x, p["weight"], p.get("bias"), self.window), x

    def jvp(self, p: Tree, res: Array, dp: Tree, dx: Array | None) -> Array:
        kernels = kernels_of(res)
        dy = kernels.conv2d(res, dp["weight"], dp.get("bias"), self.window)
        if dx is not None:
            dy += kernels.conv2d(dx, p["weight"], None, self.window)
        return dy

    def vjp(self, p: Tree, res: Array, gy: Array, *, wrt_input: bool = True) -> Pulled:
        kernels = kernels_of(gy)
        gp = {"weight": kernels.conv2d_weight_gradient(res, gy, self.window)}
        if self.bias:
            gp["bias"] = kernels.sum(gy, (-4, -2, -1))
        if not wrt_input:
            return gp, None
        return gp, kernels.conv2d_input_gradient(gy, p["weight"], self.window, res.shape[-2:])

    def jvp_of_vjp(self, p: Tree, res: Array, gy: Array, d: Tangent, *, wrt_input: bool = True) -> Pulled:
        kernels = kernels_of(gy)
        dgp, dgx = self.vjp(p, res, d.gy, wrt_input=wrt_input)
        if d.x is not None:
            dgp["weight"] += kernels.conv2d_weight_gradient(d.x, gy, self.window)
        if dgx is not None:
            dgx += kernels.conv2d_input_gradient(gy, d.p["weight"], self.window, res.shape[-2:])
        return dgp, dgx
