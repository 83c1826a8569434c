"""Gradient-based learners in 50 digits, one task after the other, by differentiating through everything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mltk.oracle.case import Values
from mltk.oracle.exact.network import LOSSES, apply
from mltk.oracle.exact.tensor import DIGITS, Tensor, concat, constant, grad, solve, stack, variable

Params = dict[str, Tensor]

NEWTON_STEPS = 30
"""At most; the number of right digits doubles with each."""


def maml(settings: Mapping[str, Any], inputs: Values) -> Values:
    """Loss and gradients of MAML, FOMAML, ANIL, BOIL and Meta-SGD: gradient descent, and the query loss."""

    def query_loss(meta: Params, task: int) -> Tensor:
        params = {name: p for name, p in meta.items() if name.partition(".")[0] != "lr"}
        names = list(params) if settings["adapted"] is None else list(settings["adapted"])
        for k in range(settings["inner_steps"]):
            gradient = grad(support_loss(settings, inputs, params, task), [params[name] for name in names])
            for name, g in zip(names, gradient, strict=True):
                rate = step_size(settings, meta, name, k)
                params[name] = params[name] - rate * (g.detach() if settings["first_order"] else g)
        return query_loss_at(settings, inputs, params, task)

    return mean_and_gradient(inputs, query_loss)


def step_size(settings: Mapping[str, Any], meta: Params, name: str, k: int) -> Tensor | float:
    """That of a parameter in step ``k``: what is learned as ``lr`` or ``lr.<name>``, or the constant."""
    rate = meta.get("lr", meta.get(f"lr.{name}"))
    if rate is None:
        return float(settings["inner_lr"])
    return rate[k] if settings.get("lr_per_step") else rate


def reptile(settings: Mapping[str, Any], inputs: Values) -> Values:
    """The query loss after descent, and the way from its end to its start, divided by the step size."""
    tasks, shots = np.shape(inputs["support_x"])[:2]
    size = min(settings["inner_batch"] or shots, shots)
    loss, total = constant(0.0), {name: constant(np.zeros(p.shape)) for name, p in inputs["params"].items()}
    for task in range(tasks):
        params = {name: constant(p) for name, p in inputs["params"].items()}
        for k in range(settings["inner_steps"]):
            first = k % (shots // size) * size
            here = {name: variable(p) for name, p in params.items()}
            value = support_loss(settings, inputs, here, task, slice(first, first + size))
            for name, g in zip(here, grad(value, list(here.values())), strict=True):
                total[name] = total[name] + g / tasks
                params[name] = params[name] - settings["inner_lr"] * g
        loss = loss + query_loss_at(settings, inputs, params, task) / tasks
    return {"loss": loss, "gradients": total}


def implicit_maml(settings: Mapping[str, Any], inputs: Values) -> Values:
    """Loss and gradient at the proximal optimum itself, found by Newton's method, through a linear system."""
    tasks, strength = len(inputs["support_x"]), settings["reg_lambda"]
    start = {name: constant(p) for name, p in inputs["params"].items()}
    loss, total = constant(0.0), constant(0.0)
    for task in range(tasks):
        params = start
        for _ in range(NEWTON_STEPS):
            gradient, hessian = _curvature(settings, inputs, params, task)
            away = concat([(params[name] - p).reshape((-1, 1)) for name, p in start.items()], 0)
            step = solve(hessian + strength * constant(np.eye(len(hessian))), gradient + strength * away)
            params = _moved(params, -step)
            if max(abs(number) for number in step.value.flat) < 10.0 ** (3 - DIGITS // 2):
                break  # what is left is about its square
        else:
            raise ArithmeticError("Newton's method has found no proximal optimum")
        _, hessian = _curvature(settings, inputs, params, task)
        here = {name: variable(p) for name, p in params.items()}
        value = query_loss_at(settings, inputs, here, task)
        gradient = _column(grad(value, list(here.values())))
        total = total + solve(constant(np.eye(len(hessian))) + hessian / strength, gradient) / tasks
        loss = loss + value / tasks
    zeros = {name: constant(np.zeros(p.shape)) for name, p in start.items()}
    return {"loss": loss, "gradients": _moved(zeros, total)}


def _curvature(
    settings: Mapping[str, Any], inputs: Values, params: Params, task: int
) -> tuple[Tensor, Tensor]:
    """The gradient of the support loss as a column, and its Hessian, parameter after parameter."""
    here = {name: variable(p) for name, p in params.items()}
    gradient = _column(grad(support_loss(settings, inputs, here, task), list(here.values())))
    rows = [_column(grad(gradient[i], list(here.values()))).reshape((-1,)) for i in range(len(gradient))]
    return gradient.detach(), stack(rows).detach()


def _column(parts: list[Tensor]) -> Tensor:
    return concat([part.reshape((-1, 1)) for part in parts], 0)


def _moved(params: Params, column: Tensor) -> Params:
    """Parameters plus a column of as many numbers."""
    moved, stop = {}, 0
    for name, p in params.items():
        first, stop = stop, stop + p.value.size
        moved[name] = p + column[first:stop].reshape(p.shape)
    return moved


def support_loss(
    settings: Mapping[str, Any], inputs: Values, params: Params, task: int, rows: slice = slice(None)
) -> Tensor:
    """The loss on a task's support set, or on some rows of it."""
    x, y = constant(inputs["support_x"][task][rows]), inputs["support_y"][task][rows]
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
