"""Layers and losses in 50 digits, for one task: inputs ``(N, *features)``, without leading axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mltk.oracle.exact.tensor import Tensor, constant, where

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


LAYERS: dict[str, Layer] = {
    "linear": linear,
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
