"""Layers and losses in 50 digits, for one task: inputs ``(N, *features)``, without leading axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mltk.oracle.exact.tensor import Tensor, concat, constant, where

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
    return x * x.sigmoid()


def flatten(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """All features on one axis."""
    return x.reshape((len(x), -1))


def convolution(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """Each output pixel is a matrix product of the weight with the patch under it."""
    patches, extents = _patches(settings, x)
    weight = p["weight"].reshape((len(p["weight"]), -1))
    y = (patches.reshape((len(x), -1, weight.shape[1])) @ weight.mT).mT
    if "bias" in p:
        y = y + p["bias"].reshape((-1, 1))
    return y.reshape((len(x), len(weight), *extents))


def max_pool(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The largest pixel under each window, the first in reading order among equals."""
    rows, columns, inside, extents = windows(settings, x)
    values = np.where(inside, x.value[:, :, rows, columns], -np.inf)
    which = np.argmax(values.astype(object), axis=-1)
    place = np.arange(rows.shape[0])
    images, channels = np.ogrid[: x.shape[0], : x.shape[1]]
    picked = x[images[..., None], channels[..., None], rows[place, which], columns[place, which]]
    return picked.reshape((*x.shape[:2], *extents))


def average_pool(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The mean of the pixels under each window; those of the border are zeros, and count."""
    rows, columns, inside, extents = windows(settings, x)
    pixels = x[:, :, rows, columns] * constant(inside.astype(float))
    return pixels.mean(-1).reshape((*x.shape[:2], *extents))


def global_average_pool(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The mean of each channel's pixels."""
    return x.mean((-2, -1))


def batch_norm(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """Standardised per channel: by constants, by the first examples, or by all of them."""
    axes = (0, *range(2, x.ndim))
    shape = (1, -1, *[1] * (x.ndim - 2))
    if "running_mean" in p:
        mean, variance = p["running_mean"].reshape(shape), p["running_var"].reshape(shape)
    else:
        counted = x[: settings["rows"]] if settings.get("rows") else x
        mean = counted.mean(axes, keepdims=True)
        centred = counted - mean
        variance = (centred * centred).mean(axes, keepdims=True)
    standard: Tensor = (x - mean) / (variance + settings["eps"]).sqrt()
    return standard * p["weight"].reshape(shape) + p["bias"].reshape(shape)


def layer_norm(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """Standardised per example."""
    axes = tuple(range(1, x.ndim))
    centred = x - x.mean(axes, keepdims=True)
    variance = (centred * centred).mean(axes, keepdims=True)
    standard: Tensor = centred / (variance + settings["eps"]).sqrt()
    return standard * p["weight"] + p["bias"]


def lstm(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The examples are read one after the other."""
    return read(p, x, reverse=settings["reverse"])


def read(p: Parameters, x: Tensor, *, reverse: bool = False) -> Tensor:
    """The outputs of an LSTM for examples ``(..., N, d)``, each in the place of its input.

    Args:
        p: The parameters of a cell.
        x: The examples.
        reverse: Whether they are read from the last to the first.
    """
    count = x.shape[-2]
    output = state = constant(np.zeros((*x.shape[:-2], 1, p["weight_hh"].shape[-1])), like=x)
    outputs: list[Tensor] = []
    for t in reversed(range(count)) if reverse else range(count):
        output, state = cell(p, x[..., t : t + 1, :], output, state)
        outputs.append(output)
    return concat(outputs[::-1] if reverse else outputs, -2)


def cell(p: Parameters, x: Tensor, recurrent: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Output and state of an LSTM after a step, gates in Torch's order: input, forget, candidate, output."""
    z = x @ p["weight_ih"].mT + p["bias_ih"] + recurrent @ p["weight_hh"].mT + p["bias_hh"]
    size = state.shape[-1]
    entered, kept, candidate, shown = (z[..., k * size : (k + 1) * size] for k in range(4))
    state = kept.sigmoid() * state + entered.sigmoid() * candidate.tanh()
    return shown.sigmoid() * state.tanh(), state


def attention(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The mean of the values, weighted by the exponentials of the scores of their keys."""
    weights = (settings["scale"] * (x @ p["keys"].mT)).exp()
    y: Tensor = (weights @ p["values"]) / weights.sum(1, keepdims=True)
    return y


def drop_rows(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """All examples but the first."""
    return x[settings["rows"] :]


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def windows(
    settings: Mapping[str, Any], x: Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]:
    """The pixels under each window: rows and columns ``(windows, pixels)``, and whether they are inside.

    Those of the border point at a pixel that is not to be used. The last are the extents of the output.
    """
    size = _pair(settings["kernel_size"])
    stride = _pair(size if settings.get("stride") is None else settings["stride"])
    padding = _pair(settings["padding"])
    extents = [(x.shape[i - 2] + 2 * padding[i] - size[i]) // stride[i] + 1 for i in (0, 1)]
    out, inside = np.indices(extents).reshape(2, -1, 1), np.indices(size).reshape(2, 1, -1)
    rows, columns = (out[i] * stride[i] - padding[i] + inside[i] for i in (0, 1))
    within = (rows >= 0) & (rows < x.shape[-2]) & (columns >= 0) & (columns < x.shape[-1])
    return rows * within, columns * within, within, (extents[0], extents[1])


def _patches(settings: Mapping[str, Any], x: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """The patches of a convolution, ``(N, windows, channels, pixels)``, and the extents of the output."""
    rows, columns, inside, extents = windows(settings, x)
    pixels = x[:, :, rows, columns] * constant(inside.astype(float))
    return pixels.transpose((0, 2, 1, 3)), extents


LAYERS: dict[str, Layer] = {
    "linear": linear,
    "convolution": convolution,
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    "relu": relu,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "silu": silu,
    "max_pool": max_pool,
    "average_pool": average_pool,
    "global_average_pool": global_average_pool,
    "flatten": flatten,
    "lstm": lstm,
    "attention": attention,
    "drop_rows": drop_rows,
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
