"""The learnable optimiser and self-tuning ones in 50 digits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mltk.models import mlp
from mltk.oracle.case import Values
from mltk.oracle.definitions.learners import Params, mean_and_gradient, query_loss_at, support_loss
from mltk.oracle.definitions.network import apply_alone
from mltk.oracle.definitions.tensor import Tensor, concat, constant, context, grad, stack, variable, where
from mltk.oracle.layers import describe_model

LEARNED = "transform."


def learned_optimizer(settings: Mapping[str, Any], inputs: Values) -> Values:
    """Loss and gradients of descent along transformed gradients."""

    def query_loss(meta: Params, task: int) -> Tensor:
        learned = {n.removeprefix(LEARNED): p for n, p in meta.items() if n.startswith(LEARNED)}
        params = {name: p for name, p in meta.items() if not name.startswith(LEARNED)}
        if not settings["learn_init"]:
            params = {name: variable(p) for name, p in params.items()}
        names = list(params) if settings["adapted"] is None else list(settings["adapted"])
        memory: Params = {}
        for _ in range(settings["inner_steps"]):
            loss = support_loss(settings, inputs, params, task)
            gradients = dict(zip(names, grad(loss, [params[name] for name in names]), strict=True))
            directions = transformed(settings["transform"], learned, gradients, memory)
            moved = {name: params[name] - settings["inner_lr"] * d for name, d in directions.items()}
            params = {**params, **moved}
        return query_loss_at(settings, inputs, params, task)

    return mean_and_gradient(inputs, query_loss)


def transformed(setting: Mapping[str, Any], learned: Params, gradients: Params, memory: Params) -> Params:
    """The directions of gradients, under the names of the parameters; ``memory`` is brought up to date."""
    kind = setting["transform"]
    if kind == "chain":
        for i, each in enumerate(setting["transforms"]):
            own = {n.removeprefix(f"{i}."): p for n, p in learned.items() if n.startswith(f"{i}.")}
            remembered = {n.removeprefix(f"{i}."): p for n, p in memory.items() if n.startswith(f"{i}.")}
            gradients = transformed(each, own, gradients, remembered)
            memory |= {f"{i}.{name}": p for name, p in remembered.items()}
        return gradients
    if kind == "scale":
        return {name: g * _number(learned, "scale", name) for name, g in gradients.items()}
    if kind == "bias":
        return {name: g + learned[name] for name, g in gradients.items()}
    if kind == "momentum":
        for name, g in gradients.items():
            before = memory.get(name, constant(0.0))
            memory[name] = g + _number(learned, "decay", name) * before
        return dict(memory)
    if kind in ("kronecker", "meta_curvature"):
        along = kronecker if kind == "kronecker" else curvature
        return {name: along(name, learned, g) for name, g in gradients.items()}
    if kind == "clip":
        return clipped(setting, gradients)
    return {name: through_network(setting, name, learned, g) for name, g in gradients.items()}


def _number(learned: Params, single: str, name: str) -> Tensor:
    """What is learned for a parameter, or for all of them."""
    return learned[single] if single in learned else learned[name]


def kronecker(name: str, learned: Params, g: Tensor) -> Tensor:
    """``A G Bᵀ`` for each matrix of input channels by pixels, or for the gradient itself."""
    left = learned[f"{name}.left"]
    if g.ndim == 1:
        return (left @ g.reshape((-1, 1))).reshape(g.shape)
    matrices = g if g.ndim == 2 else g.reshape((*g.shape[:2], -1))
    return (left @ matrices @ learned[f"{name}.right"].mT).reshape(g.shape)


def curvature(name: str, learned: Params, g: Tensor) -> Tensor:
    """A product with a matrix along outputs, along inputs, and along the pixels of a filter."""
    shape = g.shape
    g = (learned[f"{name}.out"] @ g.reshape((shape[0], -1))).reshape(shape)
    if len(shape) == 1:
        return g
    matrices = g.reshape((*shape[:2], -1))
    matrices = learned[f"{name}.in"] @ matrices
    if len(shape) > 2:
        matrices = matrices @ learned[f"{name}.filter"].mT
    return matrices.reshape(shape)


def clipped(setting: Mapping[str, Any], gradients: Params) -> Params:
    """Gradients of a limited norm, all together, or of limited values."""
    limit = setting["limit"]
    if setting["by"] == "value":
        return {
            name: where(np.abs(g.value) <= limit, g, constant(np.sign(g.value.astype(float)) * limit))
            for name, g in gradients.items()
        }
    norm = concat([(g * g).reshape((-1,)) for g in gradients.values()], 0).sum().sqrt()
    factor = limit / norm if norm.value >= limit else constant(1.0)
    return {name: factor * g for name, g in gradients.items()}


def through_network(setting: Mapping[str, Any], name: str, learned: Params, g: Tensor) -> Tensor:
    """A gradient plus what a network makes of the logarithm and the sign of each of its numbers."""
    prefix = "" if setting["shared"] else f"{name}."
    own = {n.removeprefix(prefix): p for n, p in learned.items() if n.startswith(prefix)}
    scale, flat = setting["scale"], g.reshape((-1, 1))
    least = context.exp(-scale)
    large = np.abs(flat.value) >= least
    sign = constant(np.sign(flat.value.astype(float)))
    size = where(large, where(large, flat * sign, 1).log() / scale, -1)
    features = concat([size, where(large, sign, flat * context.exp(scale))], 1)
    layers = describe_model(mlp((2, *setting["hidden"], 1), activation=setting["activation"]))
    return g + apply_alone(layers, own, features).reshape(g.shape)


def hypergradient(settings: Mapping[str, Any], inputs: Values) -> Values:
    """The parameters after each step of a descent whose step size descends, too."""
    theta, rate = constant(inputs["params"]["theta"]), constant(settings["learning_rate"])
    momentum, (beta1, beta2) = settings["momentum"], settings["betas"]
    direction = mean = square = constant(np.zeros(theta.shape))
    path, rates = [], []
    for t, g in enumerate(map(constant, inputs["steps"]), 1):
        rate = rate - settings["hyper_rate"] * (g * direction).sum()
        if settings["optimizer"] == "sgd":
            mean = momentum * mean + g
            direction = -mean
        else:
            mean = beta1 * mean + (1 - constant(beta1)) * g
            square = beta2 * square + (1 - constant(beta2)) * g * g
            first, second = (1 - constant(context.mpf(beta) ** t) for beta in (beta1, beta2))
            direction = -(mean / first) / ((square / second).sqrt() + settings["eps"])
        theta = theta + rate * direction
        path.append(theta)
        rates.append(rate)
    return {"path": stack(path), "rates": stack(rates)}


def idbd(settings: Mapping[str, Any], inputs: Values) -> Values:
    """Weights, step sizes and errors of Sutton's rule, example by example."""
    features = inputs["x"].shape[-1]
    weight = trace = constant(np.zeros(features))
    log_rate = constant(np.full(features, math.log(settings["initial_rate"])))
    errors, weights, rates = [], [], []
    for x, y in zip(map(constant, inputs["x"]), inputs["y"], strict=True):
        error = constant(y) - (weight * x).sum()
        log_rate = log_rate + settings["meta_rate"] * error * x * trace
        rate = log_rate.exp()
        weight = weight + rate * error * x
        kept = 1 - rate * x * x
        trace = trace * where(kept.value > 0, kept, 0) + rate * error * x
        errors.append(error)
        weights.append(weight)
        rates.append(rate)
    return {"weights": stack(weights), "rates": stack(rates), "errors": stack(errors)}
