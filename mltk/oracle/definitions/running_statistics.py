"""The running statistics of Torch's batch norms, per task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mltk.oracle.definitions.network import apply
from mltk.oracle.definitions.tensor import Tensor, constant

MOMENTUM = 0.1
"""How far a pass in training mode moves the running statistics of Torch, by default."""

Layers = Sequence[Mapping[str, Any]]


def fresh(layers: Layers, tasks: int, like: Tensor) -> dict[str, Tensor]:
    """Those with which batch norms begin: mean 0 and variance 1."""
    return {
        f"{place}.{key}": constant(np.full((tasks, layer["features"]), value), like=like)
        for place, layer in enumerate(layers)
        if layer["layer"] == "batch_norm"
        for key, value in (("running_mean", 0.0), ("running_var", 1.0))
    }


def tracked(
    layers: Layers, params: Mapping[str, Tensor], x: Tensor, before: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Running statistics after a pass in training mode; the variance is the unbiased one, as in Torch."""
    found = dict(before)
    for place, layer in enumerate(layers):
        if layer["layer"] == "batch_norm":
            seen = apply(layers[:place], params, x, support_rows=x.shape[1]).value
            axes, count = (1, *range(3, seen.ndim)), seen.size / seen.shape[0] / seen.shape[2]
            moments = seen.mean(axes), seen.var(axes) * (count / max(count - 1, 1))
            for key, moment in zip(("running_mean", "running_var"), moments, strict=True):
                old = found[f"{place}.{key}"].value
                found[f"{place}.{key}"] = Tensor((1 - MOMENTUM) * old + MOMENTUM * moment)
    return found
