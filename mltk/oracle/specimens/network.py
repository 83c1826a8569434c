"""What the specimens share, as users write it: the network of a case layer by layer, and its losses."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody's name for it

Arrays = dict[str, Tensor]
Result = tuple[Tensor, Arrays]
Normalisation = Callable[[Mapping[str, Any], Arrays, Tensor, int | None], Tensor]
"""From the settings of a batch norm, its parameters, its input and the support rows to its output."""


class Task(NamedTuple):
    """The support set and the query set of one task."""

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor


def learnable(params: Arrays) -> Arrays:
    """Leaves of the same values that autograd differentiates for."""
    return {name: p.detach().clone().requires_grad_() for name, p in params.items()}


def gradients(value: Tensor, params: Arrays) -> Arrays:
    """The gradient of a value for leaves, zero where it does not depend on one."""
    grads = torch.autograd.grad(value, list(params.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(params, grads, strict=True))


def grads_of(params: Arrays) -> Arrays:
    """What ``backward`` left at leaves."""
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in params.items()}


def forward(
    layers: Iterable[Mapping[str, Any]],
    params: Arrays,
    x: Tensor,
    support_rows: int | None,
    normalise: Normalisation,
) -> Tensor:
    """The outputs of the network for inputs ``(N, *features)``."""
    for position, layer in enumerate(layers):
        start = f"{position}."
        p = {name.removeprefix(start): value for name, value in params.items() if name.startswith(start)}
        normed = layer["layer"] == "batch_norm"
        x = normalise(layer, p, x, support_rows) if normed else _layer(layer, p, x)
    return x


def batch_norm(layer: Mapping[str, Any], p: Arrays, x: Tensor, support_rows: int | None) -> Tensor:
    """By the rows that the layer asks for: its own set, or the support set in front of it."""
    rows = x[:support_rows] if layer["statistics"] == "support" else x[: layer["rows"]]
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    variance, mean = torch.var_mean(rows, axes, correction=0, keepdim=True)
    weight, bias = (p[name].view(mean.shape) for name in ("weight", "bias"))
    standardised: Tensor = (x - mean) / (variance + layer["eps"]).sqrt()
    return standardised * weight + bias


def _layer(layer: Mapping[str, Any], p: Arrays, x: Tensor) -> Tensor:
    match layer["layer"]:
        case "linear":
            return F.linear(x, p["weight"], p.get("bias"))
        case "convolution":
            return F.conv2d(x, p["weight"], p.get("bias"), _pair(layer["stride"]), _pair(layer["padding"]))
        case "layer_norm":
            return F.layer_norm(x, x.shape[1:], p["weight"], p["bias"], layer["eps"])
        case "flatten":
            return x.flatten(1)
        case "max_pool":
            size, padding = _pair(layer["kernel_size"]), _pair(layer["padding"])
            stride = size if layer["stride"] is None else _pair(layer["stride"])
            return F.max_pool2d(x, size, stride, padding)
        case activation if hasattr(F, activation):
            activated: Tensor = getattr(F, activation)(x)
            return activated
    raise NotImplementedError(f"the layer {layer['layer']}")


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
