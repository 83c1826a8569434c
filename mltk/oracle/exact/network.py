"""Layers and losses in 50 digits, for one task: inputs ``(N, *features)``, without leading axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mltk.oracle.exact.tensor import Tensor, concat, constant, context, where

Parameters = Mapping[str, Tensor]
Layer = Callable[[Mapping[str, Any], Parameters, Tensor], Tensor]
"""From the settings of a layer, its own parameters and its input to its output."""


def linear(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """A matrix product with the weight ``(out, in)``, and the bias."""
    y = x @ p["weight"].mT
    return y + p["bias"] if "bias" in p else y


def relu(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The positive part; its slope at zero is zero."""
    return where(x.value > 0, x, 0)


def tanh(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return x.tanh()


def sigmoid(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The logistic function."""
    return 1 / (1 + (-x).exp())


def silu(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The input times its logistic function."""
    return x / (1 + (-x).exp())


def flatten(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """All features on one axis."""
    return x.reshape((len(x), -1))


def convolution(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """A matrix product of each window with the weight ``(out, in, kh, kw)``, and the bias; zeros around."""
    weight = p["weight"]
    kernel = (weight.shape[2], weight.shape[3])
    patches, (height, width) = _windows(x, kernel, settings["stride"], settings["padding"], 0.0)
    rows = patches.transpose((0, 2, 1, 3)).reshape((len(x) * height * width, -1))
    y = rows @ weight.reshape((len(weight), -1)).mT
    y = y + p["bias"] if "bias" in p else y
    return y.reshape((len(x), height, width, len(weight))).transpose((0, 3, 1, 2))


def max_pool(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The largest pixel of each window, the first in reading order among equals."""
    kernel, stride = settings["kernel_size"], settings["stride"]
    lowest = -context.inf
    windows, extents = _windows(x, kernel, kernel if stride is None else stride, settings["padding"], lowest)
    rows = windows.reshape((-1, windows.shape[-1]))
    first = np.array([int(np.argmax(row)) for row in rows.value])
    return rows[np.arange(len(rows)), first].reshape((*x.shape[:2], *extents))


def _windows(x: Tensor, kernel: Any, stride: Any, padding: Any, fill: Any) -> tuple[Tensor, tuple[int, int]]:
    """The pixels of each window, ``(N, C, windows, pixels)``, and how many windows there are along each axis.

    Outside of the image stands ``fill``.
    """
    sizes = x.shape[2:]
    (kh, kw), (sh, sw), (ph, pw) = (np.broadcast_to(value, 2).tolist() for value in (kernel, stride, padding))
    top, left = (
        np.arange(0, size + 2 * pad - k + 1, step) - pad
        for size, k, step, pad in zip(sizes, (kh, kw), (sh, sw), (ph, pw), strict=True)
    )
    i = top[:, None, None, None] + np.arange(kh)[:, None]
    j = left[:, None, None] + np.arange(kw)
    inside = (i >= 0) & (i < sizes[0]) & (j >= 0) & (j < sizes[1])
    where_from = np.where(inside, i * sizes[1] + j, sizes[0] * sizes[1]).reshape((-1, kh * kw))
    pixels = x.reshape((*x.shape[:2], -1))
    around = constant(np.full((*x.shape[:2], 1), context.mpf(fill), dtype=object))
    return concat([pixels, around], 2)[:, :, where_from], (len(top), len(left))


def batch_norm(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """Each channel less its mean, divided by its standard deviation (biased), scaled and shifted.

    Mean and variance are constants among the parameters, or those of the first ``rows`` examples.
    """
    axes = (0, *range(2, x.ndim))
    shape = (1, -1, *[1] * (x.ndim - 2))
    if "running_mean" in p:
        mean, variance = p["running_mean"].reshape(shape), p["running_var"].reshape(shape)
    else:
        counted = x if settings.get("rows") is None else x[: settings["rows"]]
        mean = counted.mean(axes, keepdims=True)
        away = counted - mean
        variance = (away * away).mean(axes, keepdims=True)
    standardised: Tensor = (x - mean) / (variance + settings["eps"]).sqrt()
    return standardised * p["weight"].reshape(shape) + p["bias"].reshape(shape)


LAYERS: dict[str, Layer] = {
    "linear": linear,
    "convolution": convolution,
    "batch_norm": batch_norm,
    "max_pool": max_pool,
    "relu": relu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "silu": silu,
    "flatten": flatten,
}


def apply(
    layers: Sequence[Mapping[str, Any]], params: Parameters, x: Tensor, *, support_rows: int | None = None
) -> Tensor:
    """The outputs of a network.

    Args:
        layers: As in `mltk.oracle.layers`.
        params: Under their dotted names.
        x: Inputs ``(N, *features)``.
        support_rows: How many inputs, from the first on, batch norms with ``"support"`` statistics take.
    """
    for position, layer in enumerate(layers):
        start = f"{position}."
        p = {name.removeprefix(start): array for name, array in params.items() if name.startswith(start)}
        settings = dict(layer)
        if settings.get("statistics") == "support":
            settings["rows"] = support_rows
        x = LAYERS[layer["layer"]](settings, p, x)
    return x


def mse(outputs: Tensor, target: np.ndarray) -> Tensor:
    """The mean of the squared differences over the examples and the output features."""
    error = outputs - constant(target)
    return (error * error).mean()


def cross_entropy(outputs: Tensor, target: np.ndarray) -> Tensor:
    """The mean over the examples of minus the log-probability of the label."""
    picked = outputs[np.arange(len(target)), target]
    return (outputs.exp().sum(1).log() - picked).mean()


LOSSES = {"mse": mse, "cross_entropy": cross_entropy}
