"""Gradient-based learners in 50 digits, one task after the other, by differentiating through everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mltk.oracle.case import Values
from mltk.oracle.exact.network import LOSSES, apply
from mltk.oracle.exact.tensor import Tensor, concat, constant, grad, variable

Params = dict[str, Tensor]


def maml(settings: Mapping[str, Any], inputs: Values) -> Values:
    """Loss and gradients of MAML, FOMAML, ANIL, BOIL and Meta-SGD: gradient descent, and the query loss."""
    rates = {name.removeprefix("lr."): name for name in inputs["params"] if name.startswith("lr.")}
    adapted = settings.get("adapted")

    def query_loss(meta: Params, task: int) -> Tensor:
        start = {name: p for name, p in meta.items() if not name.startswith("lr.")}
        names = list(start) if adapted is None else list(adapted)
        params = dict(start)
        for _ in range(settings["inner_steps"]):
            gradient = grad(support_loss(settings, inputs, params, task), [params[name] for name in names])
            for name, g in zip(names, gradient, strict=True):
                step = meta[rates[name]] if rates else settings["inner_lr"]
                params[name] = params[name] - step * (g.detach() if settings.get("first_order") else g)
        return query_loss_at(settings, inputs, params, task)

    return mean_and_gradient(inputs, query_loss)


def support_loss(settings: Mapping[str, Any], inputs: Values, params: Params, task: int) -> Tensor:
    """The loss on a task's support set."""
    x, y = constant(inputs["support_x"][task]), inputs["support_y"][task]
    return LOSSES[settings["loss"]](apply(settings["layers"], params, x, support_rows=len(y)), y)


def query_loss_at(settings: Mapping[str, Any], inputs: Values, params: Params, task: int) -> Tensor:
    """The loss on a task's query set, which batch norms of the support set normalise by it."""
    x, y = constant(inputs["query_x"][task]), inputs["query_y"][task]
    if not any(layer.get("statistics") == "support" for layer in settings["layers"]):
        return LOSSES[settings["loss"]](apply(settings["layers"], params, x), y)
    support = constant(inputs["support_x"][task])
    outputs = apply(settings["layers"], params, concat([support, x], 0), support_rows=len(support))
    return LOSSES[settings["loss"]](outputs[len(support) :], y)


def mean_and_gradient(inputs: Values, loss: Callable[[Params, int], Tensor]) -> Values:
    """The mean of a loss over the tasks, and its gradient for the parameters."""
    meta = {name: variable(value) for name, value in inputs["params"].items()}
    tasks = len(inputs["support_x"])
    value = constant(0.0)
    for task in range(tasks):
        value = value + loss(meta, task) / tasks
    gradients = grad(value, list(meta.values()))
    return {"loss": value, "gradients": dict(zip(meta, gradients, strict=True))}
