"""Values and derivatives of operations and losses in 50 digits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mltk.oracle.case import Values
from mltk.oracle.computation import Route
from mltk.oracle.definitions import network
from mltk.oracle.definitions.network import apply
from mltk.oracle.definitions.tensor import Tensor, constant, context, grad, jvp, variable

Function = Callable[[Mapping[str, Any], Values, Mapping[str, Tensor]], Tensor]
"""From the settings and inputs of a case, and what is differentiated under its names, to the value."""


def differentiated(function: Function) -> Route:
    """The value of a function, its tangent, what a cotangent pulls back to, and the tangent of that."""

    def route(settings: Mapping[str, Any], inputs: Values) -> Values:
        tangents = {"x": inputs["dx"], **inputs.get("dparams", {})}
        arrays = {"x": inputs["x"], **inputs.get("params", {})}
        point = {name: variable(array) for name, array in arrays.items()}
        gy = variable(inputs["gy"])
        xs, dxs = [point[name] for name in tangents], [constant(tangent) for tangent in tangents.values()]
        value = function(settings, inputs, point)
        pulled = grad(value, xs, gy)
        moved = jvp(pulled, [*xs, gy], [*dxs, constant(inputs["dgy"])])
        return {
            "value": value,
            "jvp": jvp([value], xs, dxs)[0],
            "vjp": dict(zip(tangents, pulled, strict=True)),
            "tangent_of_vjp": dict(zip(tangents, moved, strict=True)),
        }

    return route


def layer(settings: Mapping[str, Any], inputs: Values, point: Mapping[str, Tensor]) -> Tensor:
    """The outputs of a layer."""
    params, tasks = {name: array for name, array in point.items() if name != "x"}, len(point["x"])
    if not settings["params_per_task"]:
        params = {name: array.broadcast_to((tasks, *array.shape)) for name, array in params.items()}
    return apply(settings["layers"], params, point["x"])


def loss(settings: Mapping[str, Any], inputs: Values, point: Mapping[str, Tensor]) -> Tensor:
    """The loss of each task."""
    return network.loss(settings["loss"], point["x"], inputs["target"])


def log_probability(settings: Mapping[str, Any], x: Tensor, actions: np.ndarray) -> Tensor:
    """The log-probability of each action, by logits or by means; the last axis becomes a number."""
    if settings["distribution"] == "gaussian":
        std = constant(settings["std"])
        error = (constant(actions) - x) / std
        each = -(error * error) / 2 - std.log() - constant(2 * context.pi).log() / 2
        return each.sum(-1)
    nearest = np.rint(actions.astype(float))  # the same action, should its number have been changed a little
    chosen = constant(np.asarray(nearest == np.arange(x.shape[-1]), float))
    x = _shifted(x)
    return (chosen * x).sum(-1) - x.exp().sum(-1).log()


def log_probabilities(settings: Mapping[str, Any], inputs: Values, point: Mapping[str, Tensor]) -> Tensor:
    """Those of a case's actions."""
    return log_probability(settings, point["x"], inputs["actions"])


def _shifted(logits: Tensor) -> Tensor:
    """Logits less a constant, the largest of each row, which no softmax sees: zeros come out as zeros."""
    return logits - constant(logits.value.max(axis=-1, keepdims=True))
