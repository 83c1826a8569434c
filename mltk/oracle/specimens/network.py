"""What the specimens share, as users write it: tasks, leaves, gradients, and the layers of a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody's name for it

Arrays = dict[str, Tensor]
Result = tuple[Tensor, Arrays]


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


def passed(layer: Mapping[str, Any], p: Arrays, x: Tensor) -> Tensor:
    """What a layer other than a batch norm makes of inputs ``(N, *features)``."""
    match layer["layer"]:
        case "linear":
            return F.linear(x, p["weight"], p.get("bias"))
        case "convolution":
            return F.conv2d(x, p["weight"], p.get("bias"), layer["stride"], layer["padding"])
        case "layer_norm":
            return F.layer_norm(x, x.shape[1:], p["weight"], p["bias"], layer["eps"])
        case "flatten":
            return x.flatten(1)
        case "max_pool":
            stride = layer["stride"] or layer["kernel_size"]
            return F.max_pool2d(x, layer["kernel_size"], stride, layer["padding"])
        case activation if hasattr(F, activation):
            activated: Tensor = getattr(F, activation)(x)
            return activated
    raise NotImplementedError(f"the layer {layer['layer']}")
