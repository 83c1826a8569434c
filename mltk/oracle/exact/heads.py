"""Heads and similarities in 50 digits: their definitions, task by task, differentiated automatically."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mltk.oracle.case import Values
from mltk.oracle.exact.network import LOSSES
from mltk.oracle.exact.tensor import DIGITS, Tensor, concat, constant, grad, solve, stack, variable, where

NOISE = 10.0 ** (10 - DIGITS)

Params = Mapping[str, Tensor]
Logits = Callable[[Mapping[str, Any], Params, Tensor, Tensor, Tensor], Tensor]
"""From the settings, the head's parameters and a task's support set, targets and queries to its logits."""


def judged(logits: Logits) -> Callable[[Mapping[str, Any], Values], Values]:
    """Logits, mean loss and gradients of a head."""

    def outputs(settings: Mapping[str, Any], inputs: Values) -> Values:
        params = {name: variable(array) for name, array in inputs.get("params", {}).items()}
        leaves = {
            "support_x": variable(inputs["support_x"]),
            "query_x": variable(inputs["query_x"]),
            **params,
        }
        found, loss, tasks = [], constant(0.0), len(inputs["support_x"])
        for task in range(tasks):
            support, query = leaves["support_x"][task], leaves["query_x"][task]
            target = targets(inputs["support_y"][task], settings["ways"])
            found.append(logits(settings, params, support, target, query))
            judge = LOSSES["mse" if settings["ways"] is None else "cross_entropy"]
            loss = loss + judge(found[-1], inputs["query_y"][task]) / tasks
        gradients = grad(loss, list(leaves.values()))
        return {
            "logits": clean(stack(found)),
            "loss": clean(loss),
            "gradients": {name: clean(g) for name, g in zip(leaves, gradients, strict=True)},
        }

    return outputs


def clean(result: Tensor) -> Tensor:
    """Numbers in which what is the rounding error of a zero has become zero."""
    value = result.value
    return constant(np.where(abs(value) < NOISE, 0 * value, value))


def targets(y: np.ndarray, ways: int | None) -> Tensor:
    """Labels ``(N,)`` as one-hot rows; values as they are."""
    return constant(y if ways is None else y[:, None] == np.arange(ways))


def prototypical(
    settings: Mapping[str, Any], params: Params, support: Tensor, target: Tensor, query: Tensor
) -> Tensor:
    """Minus squared distances to class means, or cosines, over the temperature."""
    prototypes = (target.mT @ support) / target.sum(0).reshape((-1, 1))
    if settings["distance"] == "cosine":
        similarity = cosines(query, prototypes)
    else:
        similarity = -squared_distances(query, prototypes)
    learned = params.get("log_temperature")
    return similarity / (settings["temperature"] if learned is None else learned.exp())


def matching(
    settings: Mapping[str, Any], params: Params, support: Tensor, target: Tensor, query: Tensor
) -> Tensor:
    """The logarithms of the attention that falls on each class."""
    attention = softmax(cosines(query, support) / settings["temperature"])
    return (attention @ target).log()


def full_context(
    settings: Mapping[str, Any], params: Params, support: Tensor, target: Tensor, query: Tensor
) -> Tensor:
    """Matching after two LSTMs over the support set, and one with attention over each query."""
    forth = _read(params, "forward", support, range(len(support)))
    back = _read(params, "backward", support, range(len(support) - 1, -1, -1))
    g = forth + back + support
    own = {name.removeprefix("attention."): p for name, p in params.items() if name.startswith("attention.")}
    output = state = constant(np.zeros(query.shape))
    for _ in range(settings["processing_steps"]):
        h = output + query
        readout = softmax(h @ g.mT) @ g
        output, state = cell(own, query, concat([h, readout], 1), state)
    return matching(settings, params, g, target, output + query)


def _read(params: Params, name: str, x: Tensor, order: range) -> Tensor:
    """The outputs of an LSTM, each in the place of its input."""
    own = {key.removeprefix(f"{name}."): p for key, p in params.items() if key.startswith(f"{name}.")}
    output = state = constant(np.zeros((1, x.shape[1])))
    outputs: dict[int, Tensor] = {}
    for i in order:
        output, state = cell(own, x[i : i + 1], output, state)
        outputs[i] = output
    return concat([outputs[i] for i in range(len(x))], 0)


def cell(p: Params, x: Tensor, recurrent: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Output and state of an LSTM after a step, gates in Torch's order: input, forget, candidate, output."""
    z = x @ p["weight_ih"].mT + recurrent @ p["weight_hh"].mT + p["bias_ih"] + p["bias_hh"]
    size = state.shape[1]
    i, f, g, o = (z[:, k * size : (k + 1) * size] for k in range(4))
    state = sigmoid(f) * state + sigmoid(i) * g.tanh()
    return sigmoid(o) * state.tanh(), state


def ridge(
    settings: Mapping[str, Any], params: Params, support: Tensor, target: Tensor, query: Tensor
) -> Tensor:
    """The outputs of the regularised least squares fit, scaled and shifted."""
    weight, bias = least_squares(support, target, penalty(settings, params), intercept=settings["intercept"])
    return calibrated(settings, params, query @ weight + bias)


def logistic(
    settings: Mapping[str, Any], params: Params, support: Tensor, target: Tensor, query: Tensor
) -> Tensor:
    """The outputs of a logistic regression for each class, after Newton steps from zero on the weights."""
    strength = penalty(settings, params)
    regulariser = strength * constant(np.eye(support.shape[1]))
    columns = []
    for k in range(target.shape[1]):
        w = constant(np.zeros((support.shape[1], 1)))
        for _ in range(settings["steps"]):
            share = sigmoid(support @ w)
            gradient = support.mT @ (share - target[:, k : k + 1]) + strength * w
            hessian = support.mT @ (share * (1 - share) * support) + regulariser
            w = w - solve(hessian, gradient)
        columns.append(w)
    return calibrated(settings, params, query @ concat(columns, 1))


def penalty(settings: Mapping[str, Any], params: Params) -> Tensor:
    """The regulariser, learned or given."""
    return params["log_lambda"].exp() if "log_lambda" in params else constant(settings["reg_lambda"])


def calibrated(settings: Mapping[str, Any], params: Params, outputs: Tensor) -> Tensor:
    """Times the scale plus the shift, learned or given."""
    scaled = outputs * params.get("scale", constant(settings["scale"]))
    return scaled + params["bias"] if "bias" in params else scaled


def least_squares(x: Tensor, y: Tensor, regulariser: Tensor, *, intercept: bool) -> tuple[Tensor, Tensor]:
    """Weight ``(d, o)`` and bias ``(1, o)`` from the normal equations for both."""
    features = x.shape[1]
    gram = x.mT @ x + regulariser * constant(np.eye(features))
    if not intercept:
        return solve(gram, x.mT @ y), constant(np.zeros((1, y.shape[1])))
    ones = constant(np.ones((len(x), 1)))
    system = concat([concat([gram, x.mT @ ones], 1), concat([ones.mT @ x, ones.mT @ ones], 1)], 0)
    both = solve(system, concat([x.mT @ y, ones.mT @ y], 0))
    return both[:features], both[features:]


def ridge_regression(settings: Mapping[str, Any], inputs: Values) -> Values:
    """Weight and bias of each task, and the pullback of their cotangents."""
    x = variable(inputs["embeddings"])
    leaves = {"embeddings": x}
    if "params" in inputs:
        leaves["reg_lambda"] = variable(inputs["params"]["reg_lambda"])
    tasks = len(inputs["embeddings"])
    strengths = leaves.get("reg_lambda", constant(settings["reg_lambda"])).broadcast_to((tasks,))
    weights, biases = [], []
    for task in range(tasks):
        y = targets(inputs["targets"][task], settings["ways"])
        weight, bias = least_squares(x[task], y, strengths[task], intercept=settings["bias"])
        weights.append(weight.mT * settings["scale"])
        biases.append(bias.reshape((-1,)) * settings["scale"])
    weight, bias = stack(weights), stack(biases)
    product = (weight * constant(inputs["g_weight"])).sum() + (bias * constant(inputs["g_bias"])).sum()
    gradients = grad(product, list(leaves.values()))
    return {
        "weight": clean(weight),
        "bias": clean(bias),
        "gradients": {name: clean(g) for name, g in zip(leaves, gradients, strict=True)},
    }


def pairwise(similarity: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Mapping[str, Any], Values], Values]:
    """The similarities of all pairs, and the pullback of a cotangent."""

    def outputs(settings: Mapping[str, Any], inputs: Values) -> Values:
        a, b = variable(inputs["a"]), variable(inputs["b"])
        value = stack([similarity(a[task], b[task]) for task in range(len(a))])
        ga, gb = grad(value, [a, b], constant(inputs["gy"]))
        return {"value": clean(value), "gradients": {"a": clean(ga), "b": clean(gb)}}

    return outputs


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Between all pairs of rows."""
    difference = a.reshape((len(a), 1, -1)) - b.reshape((1, len(b), -1))
    return (difference * difference).sum(2)


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """Between all pairs of rows; zero, and constant, for rows of zeros."""
    return unit(a) @ unit(b).mT


def unit(x: Tensor) -> Tensor:
    """Rows of length one; rows of zeros stay."""
    zero = np.asarray((x.value == 0).all(axis=1, keepdims=True), dtype=bool)
    length = where(zero, 1, (x * x).sum(1, keepdims=True) + constant(zero.astype(float))).sqrt()
    return where(np.broadcast_to(zero, x.shape), 0, x / length)


def softmax(x: Tensor) -> Tensor:
    """Rows of probabilities."""
    exponentials = x.exp()
    return exponentials / exponentials.sum(1, keepdims=True)


def sigmoid(x: Tensor) -> Tensor:
    """The logistic function."""
    return 1 / (1 + (-x).exp())
