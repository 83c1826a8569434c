"""Torch's fastest versions of the kernels.

Images are kept channels-last in memory (their logical axes stay ``(..., N, C, H, W)``), where oneDNN's
convolutions and the vectorised loops over channels run fastest. Weights that differ between tasks are
convolved task by task: one grouped convolution is slower.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from mltk.ops.image_kernels import Window
from mltk.ops.kernels import Kernels

IMAGES = (-4, -2, -1)
"""The axes over which batch norm standardises images."""

# These limits were found by `mltk bench conv4-maml` on a CPU with two cores.

FEW_PLACES = 256
"""Places of a window in all images of a task up to which a convolution is a matrix product."""

FEW_TAPS = 32
"""Numbers that a window sees at one place up to which it is one, too."""

TINY = 2**16
"""Numbers up to which all tasks at once, in more passes, are standardised faster than each by itself."""


class TorchKernels(Kernels):
    """Torch's fastest versions."""

    def root(self, x: torch.Tensor) -> torch.Tensor:
        """See `Kernels.root`."""
        if not x.requires_grad:
            return x.sqrt()
        zero = x == 0
        return torch.where(zero, 0.0, torch.where(zero, 1.0, x).sqrt())

    def as_array(self, result: torch.Tensor) -> torch.Tensor:
        """See `Kernels.as_array`: `torch.asarray` would cut it from what it was computed from."""
        return result

    def conv2d(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, window: Window
    ) -> torch.Tensor:
        """See `Kernels.conv2d`."""
        places = window.places(x.shape[-2:])
        if _shared(weight, bias):
            y = F.conv2d(_fold(x), weight, bias, window.stride, window.padding)
            return _split(y, x.shape[:-3])
        leading = x.shape[:-4]
        weight = weight.expand(*leading, *weight.shape[-4:]).flatten(0, -5)
        if bias is not None:
            bias = bias.expand(*leading, weight.shape[1]).flatten(0, -2)
        if _small(x, places, weight):
            return _correlate(x, weight, bias, window)
        biases = bias if bias is not None else [None] * len(weight)
        return _stack(
            [
                F.conv2d(images, w, b, window.stride, window.padding)
                for images, w, b in zip(_tasks(x), weight, biases, strict=True)
            ],
            leading,
        )

    def conv2d_input_gradient(
        self, gy: torch.Tensor, weight: torch.Tensor, window: Window, image: tuple[int, int]
    ) -> torch.Tensor:
        """See `Kernels.conv2d_input_gradient`."""
        if weight.ndim == 4:
            g = _fold(gy)
            x = _empty(g, g.shape[0], weight.shape[1], *image)
            return _split(_convolution_backward(g, x, weight, window, 0), gy.shape[:-3])
        leading = gy.shape[:-4]
        weights = weight.expand(*leading, *weight.shape[-4:]).flatten(0, -5)
        border = tuple(size - 1 - padding for size, padding in zip(window.size, window.padding, strict=True))
        if window.stride == (1, 1) and min(border) >= 0 and _small(gy, image, weights):
            turned = weights.flip(-2, -1).transpose(1, 2)
            return _correlate(gy, turned, None, Window(window.size, (1, 1), (border[0], border[1])))
        x = _empty(gy, gy.shape[-4], weight.shape[-3], *image)
        return _stack(
            [_convolution_backward(g, x, w, window, 0) for g, w in zip(_tasks(gy), weights, strict=True)],
            leading,
        )

    def conv2d_weight_gradient(self, x: torch.Tensor, gy: torch.Tensor, window: Window) -> torch.Tensor:
        """See `Kernels.conv2d_weight_gradient`."""
        like = _empty(x, gy.shape[-3], x.shape[-3], *window.size)
        if _small(x, gy.shape[-2:], like):
            rows = _rows(gy)
            taps = rows.reshape(-1, *rows.shape[-2:]).mT @ _patches(x, window)
            weight = taps.view(*x.shape[:-4], gy.shape[-3], *window.size, x.shape[-3])
            return weight.movedim(-1, -3)
        grads = [
            _convolution_backward(g, images, like, window, 1)
            for images, g in zip(_tasks(x), _tasks(gy), strict=True)
        ]
        return torch.stack(grads).view(*x.shape[:-4], *like.shape)

    def at_least(self, x: torch.Tensor, least: float) -> torch.Tensor:
        """See `Kernels.at_least`; the bound is not copied to the device, which would wait for it."""
        return x.clamp(min=least)

    def relu(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Kernels.relu`."""
        y = torch.relu(x)
        return y, y.detach().sign()

    def combine(
        self, constant: torch.Tensor, terms: Iterable[tuple[torch.Tensor, torch.Tensor]]
    ) -> torch.Tensor:
        """See `Kernels.combine`; each term is one pass."""
        (factor, array), *others = terms
        total = torch.addcmul(torch.as_tensor(constant, dtype=array.dtype), factor, array)
        for factor, array in others:
            total = total.addcmul_(factor, array)
        return total

    def means(
        self, g: torch.Tensor, u: torch.Tensor, axes: tuple[int, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Kernels.means`."""
        if not _is_native(g, axes) or g.numel() <= TINY:
            return super().means(g, u, axes)
        _, mean, kappa = _batch_norm_backward(u, g, None, [False, True, True])
        return mean, kappa

    def standardize(
        self, x: torch.Tensor, axes: tuple[int, ...], eps: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Kernels.standardize`."""
        if not _is_native(x, axes):
            return super().standardize(x, axes, eps)
        found = [
            torch.native_batch_norm(images, None, None, None, None, True, 0.0, eps) for images in _tasks(x)
        ]
        u = _stack([each[0] for each in found], x.shape[:-4])
        return u, _per_channel([each[2] for each in found], x)

    def project(
        self, u: torch.Tensor, g: torch.Tensor, s: torch.Tensor, axes: tuple[int, ...]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `Kernels.project`."""
        if not _is_native(g, axes) or g.numel() <= TINY:
            return super().project(u, g, s, axes)
        projected, mean, kappa = _batch_norm_backward(u, g, s, [True, True, True])
        assert projected is not None
        return projected, mean, kappa

    def max_pool2d(self, x: torch.Tensor, window: Window) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Kernels.max_pool2d`; the places are positions in the memory of one channels-last image."""
        window.places(x.shape[-2:])
        y, pixel = F.max_pool2d(_fold(x), window.size, window.stride, window.padding, return_indices=True)
        channels = torch.arange(x.shape[-3], device=x.device)[:, None, None]
        which = torch.add(channels, pixel, alpha=x.shape[-3])
        return _split(y, x.shape[:-3]), _split(which, x.shape[:-3])

    def take_from_windows(self, x: torch.Tensor, which: torch.Tensor, window: Window) -> torch.Tensor:
        """See `Kernels.take_from_windows`."""
        memory = _fold(x).movedim(1, -1).flatten(1)
        places = which.movedim(-3, -1)
        taken = memory.gather(1, places.reshape(len(memory), -1))
        return taken.view(places.shape).movedim(-1, -3)

    def put_into_windows(
        self, gy: torch.Tensor, which: torch.Tensor, window: Window, image: tuple[int, int]
    ) -> torch.Tensor:
        """See `Kernels.put_into_windows`."""
        channels = gy.shape[-3]
        values = _fold(gy).movedim(1, -1).flatten(1)
        memory = values.new_zeros(len(values), image[0] * image[1] * channels)
        memory.scatter_add_(1, which.movedim(-3, -1).reshape(values.shape), values)
        return memory.view(*gy.shape[:-3], *image, channels).movedim(-1, -3)

    def magic_box(self, x: torch.Tensor) -> torch.Tensor:
        """See `Kernels.magic_box`."""
        return torch.exp(x - x.detach())

    def shows_non_finite(self, x: torch.Tensor) -> bool:
        """See `Kernels.shows_non_finite`; never inside `torch.compile`, `torch.func.vmap` and the like."""
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return False
        try:
            return not bool(torch.isfinite(x.detach()).all())
        except RuntimeError:  # what Torch raises where the values cannot be looked at
            return False

    def cholesky(self, a: torch.Tensor) -> torch.Tensor:
        """See `Kernels.cholesky`; success is not waited for."""
        factor, info = torch.linalg.cholesky_ex(a)
        checked: torch.Tensor = factor.masked_fill(info[..., None, None] != 0, math.nan)
        return checked

    def cholesky_solve(self, factor: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """See `Kernels.cholesky_solve`."""
        return torch.cholesky_solve(b, factor)


def _is_native(x: torch.Tensor, axes: tuple[int, ...]) -> bool:
    """Whether Torch's batch norm does this: of single images its backward pass misreads the memory order."""
    return axes == IMAGES and x.shape[-4] > 1


def _shared(weight: torch.Tensor, bias: torch.Tensor | None) -> bool:
    return weight.ndim == 4 and (bias is None or bias.ndim == 1)


def _small(x: torch.Tensor, places: tuple[int, ...], weight: torch.Tensor) -> bool:
    """Whether one product for all tasks, on patches, is faster than a convolution a task."""
    return x.shape[-4] * math.prod(places) <= FEW_PLACES or math.prod(weight.shape[-3:]) <= FEW_TAPS


def _correlate(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, window: Window
) -> torch.Tensor:
    """A convolution of each task as a product of its patches with its weight ``(T, O, C, kh, kw)``."""
    patches, taps = _patches(x, window), weight.movedim(2, -1).flatten(2).mT
    y = patches @ taps if bias is None else torch.baddbmm(bias[:, None], patches, taps)
    return y.view(*x.shape[:-3], *window.places(x.shape[-2:]), -1).movedim(-1, -3)


def _patches(x: torch.Tensor, window: Window) -> torch.Tensor:
    """What the kernel sees at each place: ``(T, N·h·w, kh·kw·C)``."""
    (height, width), (top, left) = window.size, window.padding
    pixels = F.pad(x.movedim(-3, -1), (0, 0, left, left, top, top))
    seen = pixels.unfold(-3, height, window.stride[0]).unfold(-3, width, window.stride[1])
    places = x.shape[-4] * seen.shape[-5] * seen.shape[-4]
    return seen.movedim(-3, -1).reshape(-1, places, height * width * x.shape[-3])


def _rows(images: torch.Tensor) -> torch.Tensor:
    """The pixels of each task, ``(..., N·h·w, C)``."""
    return images.movedim(-3, -1).flatten(-4, -2)


def _batch_norm_backward(
    u: torch.Tensor, g: torch.Tensor, s: torch.Tensor | None, mask: list[bool]
) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor]:
    """What `Kernels.project` returns: the backward pass of batch norm on numbers with mean 0, deviation 1."""
    channels = g.shape[-3]
    zeros, ones = g.new_zeros(channels), g.new_ones(channels)
    tasks = _tasks(g)
    scales = [ones] * len(tasks)
    if s is not None:
        each = s.expand(*g.shape[:-4], 1, channels, 1, 1).reshape(-1, channels)
        scales = list(each.contiguous())  # Torch reads them as if they were
    found = [
        torch.ops.aten.native_batch_norm_backward(
            images, standardized, weight, None, None, zeros, ones, True, 0.0, mask
        )
        for images, standardized, weight in zip(tasks, _tasks(u), scales, strict=True)
    ]
    count = math.prod(g.shape[axis] for axis in IMAGES)
    projected = _stack([each[0] for each in found], g.shape[:-4]) if mask[0] else None
    kappa, mean = (_per_channel([each[k] for each in found], g) / count for k in (1, 2))
    return projected, mean, kappa


def _per_channel(numbers: list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    """Numbers per task and channel, ``(..., 1, C, 1, 1)``."""
    return torch.stack(numbers).view(*like.shape[:-4], 1, -1, 1, 1)


def _convolution_backward(
    gy: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, window: Window, which: int
) -> torch.Tensor:
    """The gradient of a convolution for its input (0) or its weight (1)."""
    mask = [which == 0, which == 1, False]
    stride, padding = list(window.stride), list(window.padding)
    grads = torch.ops.aten.convolution_backward(
        gy, x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, mask
    )
    found: torch.Tensor = grads[which]
    return found


def _empty(like: torch.Tensor, *shape: int) -> torch.Tensor:
    """Stands for the operand whose values a convolution's gradient does not need."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _fold(images: torch.Tensor) -> torch.Tensor:
    """``(..., N, C, H, W)`` as one batch, channels-last in memory."""
    if images.shape[-3] == 1:  # in both orders the same memory, which Torch would copy
        return images.reshape(-1, *images.shape[-2:], 1).movedim(-1, 1)
    return images.reshape(-1, *images.shape[-3:]).contiguous(memory_format=torch.channels_last)


def _split(images: torch.Tensor, leading: tuple[int, ...]) -> torch.Tensor:
    """One batch with the axes that `_fold` made one."""
    return images.view(*leading, *images.shape[1:])


def _tasks(images: torch.Tensor) -> torch.Tensor:
    """``(..., N, C, H, W)`` with the tasks as one axis, channels-last in memory."""
    return _split(_fold(images), (-1, images.shape[-4]))


def _stack(images: list[torch.Tensor], leading: torch.Size) -> torch.Tensor:
    """Stack tasks without leaving channels-last memory."""
    if len(images) == 1:
        return images[0].view(*leading, *images[0].shape)
    stacked = torch.stack([image.movedim(1, -1) for image in images])
    return stacked.movedim(-1, 2).reshape(*leading, *images[0].shape)
