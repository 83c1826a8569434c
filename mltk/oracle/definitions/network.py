"""Layers and losses on tasks side by side: inputs ``(T, N, *features)``, and parameters of each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mltk.oracle.definitions.tensor import Tensor, concat, constant, where

Parameters = Mapping[str, Tensor]
Layer = Callable[[Mapping[str, Any], Parameters, Tensor], Tensor]
"""From the settings of a layer, its own parameters and its input to its output.

Where the settings say what is ``wrong``, it makes a known mistake.
"""


def _spread(p: Tensor, x: Tensor) -> Tensor:
    """A parameter of each task, with axes of extent one in front of its own to go with an input."""
    return p.reshape((len(p), *[1] * (x.ndim - p.ndim), *p.shape[1:]))


def linear(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """A matrix product with the weight ``(out, in)``, and the bias."""
    y = x @ _spread(p["weight"].mT, x)
    return y + _spread(p["bias"], x) if "bias" in p else y


def relu(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The positive part; its slope at zero is zero, or what is wrong."""
    positive = where(x.value > 0, x, 0)
    return where(x.value == 0, settings["slope"] * x, positive) if "slope" in settings else positive


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
    return x.reshape((*x.shape[:2], -1))


def convolution(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """Each output pixel is a matrix product of the weight with the patch under it."""
    patches, extents = _patches(settings, _images(x))
    (tasks, examples), out = x.shape[:2], p["weight"].shape[1]
    weight = p["weight"].reshape((tasks, out, -1))
    y = patches.reshape((tasks, -1, weight.shape[2])) @ weight.mT
    y = y.reshape((tasks, examples, -1, out)).mT
    if "bias" in p:
        y = y + p["bias"].reshape((tasks, 1, out, 1))
    return y.reshape((tasks, examples, out, *extents))


def _images(x: Tensor) -> Tensor:
    """The images of all tasks in a row."""
    return x.reshape((-1, *x.shape[2:]))


def max_pool(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The largest pixel under each window, the first in reading order among equals."""
    images = _images(x)
    rows, columns, inside, extents = windows(settings, x)
    seen = np.where(inside, images.value[:, :, rows, columns], -np.inf)
    wrong = settings.get("wrong")
    if wrong is None:
        which, place = np.argmax(seen.astype(object), axis=-1), np.arange(len(rows))
        first, channels = np.ogrid[: len(images), : images.shape[1]]
        y = images[first[..., None], channels[..., None], rows[place, which], columns[place, which]]
    else:
        y = _among_equals(images[:, :, rows, columns], seen, wrong)
    return y.reshape((*x.shape[:3], *extents))


def _among_equals(pixels: Tensor, seen: np.ndarray, wrong: str) -> Tensor:
    """The largest pixels, whose gradient is shared by all equal ones, goes to each or to the last of them."""
    tied = np.asarray(seen == seen.max(-1, keepdims=True), float)
    if wrong == "last":
        tied = tied * (np.cumsum(tied[..., ::-1], -1)[..., ::-1] == 1)
    mean = (pixels * constant(tied / tied.sum(-1, keepdims=True), like=pixels)).sum(-1)
    if wrong != "all":
        return mean
    total = (pixels * constant(tied, like=pixels)).sum(-1)
    return total + (mean - total).detach()


def average_pool(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The mean of the pixels under each window; those of the border are zeros, and count."""
    rows, columns, inside, extents = windows(settings, x)
    pixels = _images(x)[:, :, rows, columns] * constant(inside.astype(float), like=x)
    if settings.get("wrong") == "border not counted":
        y = pixels.sum(-1) / constant(inside.sum(-1), like=x)
    else:
        y = pixels.mean(-1)
    return y.reshape((*x.shape[:3], *extents))


def global_average_pool(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The mean of each channel's pixels."""
    return x.mean((-2, -1))


def batch_norm(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """Standardised per channel: by constants, by the first examples, or by all of them."""
    axes = (1, *range(3, x.ndim))
    shape = (len(x), 1, -1, *[1] * (x.ndim - 3))
    if "running_mean" in p:
        mean, variance = p["running_mean"].reshape(shape), p["running_var"].reshape(shape)
        standard = (x - mean) / _deviation(settings, variance)
    else:
        standard = _standardised(settings, x, x[:, : settings["rows"]] if settings.get("rows") else x, axes)
    return standard * p["weight"].reshape(shape) + p["bias"].reshape(shape)


def layer_norm(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """Standardised per example."""
    standard = _standardised(settings, x, x, tuple(range(2, x.ndim)))
    return standard * _spread(p["weight"], x) + _spread(p["bias"], x)


def _standardised(settings: Mapping[str, Any], x: Tensor, counted: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Less the mean, over the deviation, of what counts."""
    wrong = settings.get("wrong")
    mean = counted.mean(axes, keepdims=True)
    centred = counted - mean
    variance = (centred * centred).mean(axes, keepdims=True)
    count = counted.value.size // mean.value.size
    if wrong == "unbiased":
        variance = variance * count / max(count - 1, 1)
    elif wrong in ("detached", "detached variance"):
        variance = variance.detach()
        mean = mean.detach() if wrong == "detached" else mean
    away: Tensor = centred if counted is x and wrong != "detached" else x - mean
    return away / _deviation(settings, variance)


def _deviation(settings: Mapping[str, Any], variance: Tensor) -> Tensor:
    if settings.get("wrong") == "epsilon beside the root":
        return variance.sqrt() + float(settings["eps"])
    return (variance + float(settings["eps"])).sqrt()


def lstm(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """The examples are read one after the other."""
    own = {name: _spread(array, x) if name.startswith("bias") else array for name, array in p.items()}
    return read(own, x, reverse=settings["reverse"])


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
    y: Tensor = (weights @ p["values"]) / weights.sum(-1, keepdims=True)
    return y


def drop_rows(settings: Mapping[str, Any], p: Parameters, x: Tensor) -> Tensor:
    """All examples but the first."""
    return x[:, settings["rows"] :]


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
    pixels = x[:, :, rows, columns] * constant(inside.astype(float), like=x)
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
        params: Under their dotted names, with a leading task axis.
        x: Inputs ``(T, N, *features)``.
        support_rows: How many inputs, from the first on, batch norms with ``"support"`` statistics take.
    """
    for position, layer in enumerate(layers):
        start = f"{position}."
        p = {name.removeprefix(start): array for name, array in params.items() if name.startswith(start)}
        settings = {**layer, "rows": support_rows} if layer.get("statistics") == "support" else layer
        x = LAYERS[layer["layer"]](settings, p, x)
    return x


def in_front(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters of a single task."""
    return {name: p.reshape((1, *p.shape)) for name, p in params.items()}


def apply_alone(layers: Sequence[Mapping[str, Any]], params: Parameters, x: Tensor) -> Tensor:
    """The outputs for a single task, of parameters and inputs without a task axis."""
    return apply(layers, in_front(params), x.reshape((1, *x.shape)))[0]


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Probabilities along an axis."""
    exponentials = (x - constant(x.value.max(axis=axis, keepdims=True), like=x)).exp()
    return exponentials / exponentials.sum(axis, keepdims=True)


def mse(outputs: Tensor, target: Tensor) -> Tensor:
    """The mean of the squared differences over the examples and the output features, per task."""
    error = outputs - target
    return (error * error).mean(tuple(range(1, error.ndim)))


def cross_entropy(outputs: Tensor, target: Tensor, *, by_class: bool = False) -> Tensor:
    """The mean cross-entropy of the examples to probabilities, per task; or first of those of each class."""
    shifted = outputs - constant(outputs.value.max(axis=-1, keepdims=True), like=outputs)
    losses = shifted.exp().sum(-1).log() - (target * shifted).sum(-1)
    if not by_class:
        return losses.mean(1)
    counts = target.value.sum(1, keepdims=True)
    shares = target.value / np.where(counts > 0, counts, 1) / (counts > 0).sum(-1, keepdims=True)
    return (losses * constant(shares.sum(-1), like=outputs)).sum(1)


def loss(kind: str, outputs: Tensor, y: np.ndarray) -> Tensor:
    """That of a name, to values ``(T, N, o)`` or labels ``(T, N)``."""
    if kind == "mse":
        return mse(outputs, constant(y, like=outputs))
    return cross_entropy(outputs, one_hot(y, outputs.shape[-1], outputs))


def one_hot(y: np.ndarray, ways: int, like: Tensor) -> Tensor:
    """Labels as rows of probabilities."""
    return constant(y[..., None] == np.arange(ways), like=like)
