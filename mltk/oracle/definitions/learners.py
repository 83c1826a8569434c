"""Gradient-based learners in 50 digits, one task after the other, by differentiating through everything."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mltk.oracle.case import Values
from mltk.oracle.definitions.inner_loop import unrolled
from mltk.oracle.definitions.inner_loop_knobs import LoopKnobs
from mltk.oracle.definitions.network import apply, in_front, loss
from mltk.oracle.definitions.tensor import (
    DIGITS,
    Tensor,
    concat,
    constant,
    grad,
    grad_once,
    solve,
    stack,
    variable,
)

Params = dict[str, Tensor]

NEWTON_STEPS = 60
"""At most."""

NEAR = 1e-4
"""After a step of this length the Hessian stays as it is: it costs more than steps that win fewer digits."""


def maml(settings: Mapping[str, Any], inputs: Values) -> Values:
    """Loss and gradients of MAML, its relatives and Reptile, one task after the other."""
    run = unrolled(LoopKnobs(), settings, inputs, variable, together=False)
    assert run is not None
    return {"loss": run.loss, "gradients": run.gradients()}


def implicit_maml(settings: Mapping[str, Any], inputs: Values) -> Values:
    """Loss and gradient at the proximal optimum itself, found by Newton's method, through a linear system."""
    tasks = len(inputs["support_x"])
    start = {name: constant(p) for name, p in inputs["params"].items()}
    judged, total = constant(0.0), constant(0.0)
    for task in range(tasks):
        params = {name: variable(p) for name, p in _optimum(settings, inputs, start, task).items()}
        hessian = _hessian(params, _column(support_loss(settings, inputs, params, task), params))
        value = query_loss_at(settings, inputs, params, task)
        matrix = constant(np.eye(len(hessian))) + hessian / settings["reg_lambda"]
        total = total + solve(matrix, _column(value, params).detach()) / tasks
        judged = judged + value.detach() / tasks
    zeros = {name: constant(np.zeros(p.shape)) for name, p in start.items()}
    return {"loss": judged, "gradients": _moved(zeros, total)}


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
    wanted = list(params.values())
    rows = [grad_once(gradient[i, 0], wanted) for i in range(len(gradient))]
    return stack([concat([g.reshape((-1,)) for g in row], 0) for row in rows])


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


def support_loss(settings: Mapping[str, Any], inputs: Values, params: Params, task: int) -> Tensor:
    """The loss on a task's support set."""
    x, y = constant(inputs["support_x"][task : task + 1]), inputs["support_y"][task : task + 1]
    outputs = apply(settings["layers"], in_front(params), x, support_rows=y.shape[1])
    return loss(settings["loss"], outputs, y)[0]


def query_loss_at(settings: Mapping[str, Any], inputs: Values, params: Params, task: int) -> Tensor:
    """The loss on a task's query set, which batch norms of the support set normalise by it."""
    x, y = constant(inputs["query_x"][task : task + 1]), inputs["query_y"][task : task + 1]
    rows = 0
    if any(layer.get("statistics") == "support" for layer in settings["layers"]):
        support = constant(inputs["support_x"][task : task + 1])
        x, rows = concat([support, x], 1), support.shape[1]
    outputs = apply(settings["layers"], in_front(params), x, support_rows=rows)
    return loss(settings["loss"], outputs[:, rows:], y)[0]


def mean_and_gradient(inputs: Values, of_task: Callable[[Params, int], Tensor]) -> Values:
    """The mean of a loss over the tasks, and its gradient for the parameters."""
    meta = {name: variable(value) for name, value in inputs["params"].items()}
    tasks = len(inputs["support_x"])
    value = constant(0.0)
    for task in range(tasks):
        value = value + of_task(meta, task) / tasks
    gradients = grad(value, list(meta.values()))
    return {"loss": value, "gradients": dict(zip(meta, gradients, strict=True))}
