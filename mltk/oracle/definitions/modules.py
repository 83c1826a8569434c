"""Sequences of clones, updates and detachments in 50 digits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mltk.oracle.case import Values
from mltk.oracle.definitions.network import apply, in_front
from mltk.oracle.definitions.network import loss as loss_of
from mltk.oracle.definitions.tensor import Tensor, constant, grad, variable

Params = dict[str, Tensor]


def clone_update_detach(settings: Mapping[str, Any], inputs: Values) -> Values:
    """The loss of the modules that a program leaves, and its gradient for the parameters of the first."""
    same = {name: group[0] for group in settings["tied"] for name in group[1:]}

    def loss(params: Params, x: np.ndarray, y: np.ndarray) -> Tensor:
        every = {**params, **{name: params[first] for name, first in same.items()}}
        outputs = apply(settings["layers"], in_front(every), constant(x[None]))
        return loss_of(settings["loss"], outputs, y[None])[0]

    modules = {"model": {name: variable(p) for name, p in inputs["params"].items()}}
    for instruction, name, *arguments in settings["program"]:
        if instruction == "clone":
            modules[name] = dict(modules[arguments[0]])
        elif instruction == "detach":
            modules[name] = {key: variable(p) for key, p in modules[name].items()}
        else:
            batch, rate, moved = arguments
            params = {key: p + 0 for key, p in modules[name].items()}  # a point, whatever led to it
            names = list(params) if moved is None else moved
            value = loss(params, inputs["support_x"][batch], inputs["support_y"][batch])
            gradients = zip(names, grad(value, [params[key] for key in names]), strict=True)
            modules[name] = {**modules[name], **{key: params[key] - rate * g for key, g in gradients}}
    total = constant(0.0)
    for name in settings["loss_of"]:
        total = total + loss(modules[name], inputs["query_x"], inputs["query_y"])
    origin = modules["model"]
    return {"loss": total, "gradients": dict(zip(origin, grad(total, list(origin.values())), strict=True))}
