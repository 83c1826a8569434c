"""Gradient-based learners in 50 digits, one task after the other, by differentiating through everything."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mltk.oracle.case import Values
from mltk.oracle.exact.network import LOSSES, apply
from mltk.oracle.exact.tensor import DIGITS, Tensor, concat, constant, grad, solve, stack, variable

Params = dict[str, Tensor]

NEWTON_STEPS = 60
"""At most."""

NEAR = 1e-4
"""After a step of this length the Hessian stays as it is: it costs more than steps that win fewer digits."""


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
    size = shots if settings["inner_batch"] is None else min(settings["inner_batch"], shots)
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
    tasks = len(inputs["support_x"])
    start = {name: constant(p) for name, p in inputs["params"].items()}
    loss, total = constant(0.0), constant(0.0)
    for task in range(tasks):
        params = {name: variable(p) for name, p in _optimum(settings, inputs, start, task).items()}
        hessian = _hessian(params, _column(support_loss(settings, inputs, params, task), params))
        value = query_loss_at(settings, inputs, params, task)
        matrix = constant(np.eye(len(hessian))) + hessian / settings["reg_lambda"]
        total = total + solve(matrix, _column(value, params).detach()) / tasks
        loss = loss + value.detach() / tasks
    zeros = {name: constant(np.zeros(p.shape)) for name, p in start.items()}
    return {"loss": loss, "gradients": _moved(zeros, total)}


def _optimum(settings: Mapping[str, Any], inputs: Values, start: Params, task: int) -> Params:
    """Where the support loss plus the proximal term is smallest."""
    strength, params = settings["reg_lambda"], start
    length = math.inf
    for _ in range(NEWTON_STEPS):
        here = {name: variable(p) for name, p in params.items()}
        gradient = _column(support_loss(settings, inputs, here, task), here)
        if length > NEAR:
            hessian = _hessian(here, gradient)
        away = concat([(params[name] - p).reshape((-1, 1)) for name, p in start.items()], 0)
        matrix = hessian + strength * constant(np.eye(len(hessian)))
        step = solve(matrix, gradient.detach() + strength * away)
        params = _moved(params, -step)
        length = max(abs(number) for number in step.value.flat)
        if length < 10.0 ** (8 - DIGITS):
            return params
    raise ArithmeticError("Newton's method has found no proximal optimum")


def _hessian(params: Params, gradient: Tensor) -> Tensor:
    """The derivatives of a gradient, a column, for all parameters."""
    rows = [_column(gradient[i, 0], params).reshape((-1,)) for i in range(len(gradient))]
    return stack(rows).detach()


def _column(value: Tensor, params: Params) -> Tensor:
    """The gradient for all parameters, one behind the other."""
    return concat([g.reshape((-1, 1)) for g in grad(value, list(params.values()))], 0)


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
