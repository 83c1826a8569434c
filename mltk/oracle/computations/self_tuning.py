"""Optimisers that tune their own step sizes: hypergradient descent and incremental delta-bar-delta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mltk.contracts import Backend
from mltk.optim import IDBD, SGD, Adam, HypergradientDescent, apply_updates
from mltk.oracle.case import Case, Values
from mltk.oracle.computation import NUMPY, TORCH, Computation, Draw
from mltk.oracle.computations.drawing import decimals, drawn
from mltk.oracle.definitions import optimizers as exact
from mltk.oracle.routes import both


def compute_hypergradient(backend: Backend, settings: Mapping[str, Any], inputs: Values) -> Values:
    """Parameters and step size after each step."""
    rate, (beta1, beta2) = settings["learning_rate"], settings["betas"]
    adam = Adam(rate, beta1=beta1, beta2=beta2, eps=settings["eps"])
    inner = adam if settings["optimizer"] == "adam" else SGD(rate, momentum=settings["momentum"])
    optimizer = HypergradientDescent(inner, hyper_rate=settings["hyper_rate"])
    params = {"theta": backend.asarray(inputs["params"]["theta"])}
    state = optimizer.init(params)
    path, rates = [], []
    for g in inputs["steps"]:
        updates, state = optimizer.update({"theta": backend.asarray(g)}, state, params)
        params = apply_updates(params, updates)
        path.append(params["theta"])
        rates.append(state["rate"])
    return {"path": backend.xp.stack(path), "rates": backend.xp.stack(rates)}


def torch_hypergradient(settings: Mapping[str, Any], inputs: Values) -> Values:
    """The same with Torch's own optimisers at step size 1, and the chain rule as autograd applies it."""
    import torch

    def tensor(value: Any) -> torch.Tensor:
        return torch.tensor(value, dtype=torch.float64)

    theta, rate = tensor(inputs["params"]["theta"]), tensor(settings["learning_rate"])
    probe = torch.zeros_like(theta, requires_grad=True)
    if settings["optimizer"] == "adam":
        unit: Any = torch.optim.Adam([probe], lr=1.0, betas=tuple(settings["betas"]), eps=settings["eps"])
    else:
        unit = torch.optim.SGD([probe], lr=1.0, momentum=settings["momentum"])
    direction, path, rates = torch.zeros_like(theta), [], []
    for g in map(tensor, inputs["steps"]):
        along = rate.clone().requires_grad_()
        (slope,) = torch.autograd.grad((g * (theta + along * direction)).sum(), along)
        rate = rate - settings["hyper_rate"] * slope
        with torch.no_grad():
            probe.zero_()
        probe.grad = g
        unit.step()
        direction = probe.detach().clone()
        theta = theta + rate * direction
        path.append(theta)
        rates.append(rate)
    return {"path": torch.stack(path).numpy(), "rates": torch.stack(rates).numpy()}


def compute_idbd(backend: Backend, settings: Mapping[str, Any], inputs: Values) -> Values:
    """Errors, weights and step sizes, example by example."""
    optimizer = IDBD(meta_rate=settings["meta_rate"], initial_rate=settings["initial_rate"])
    x, y = backend.asarray(inputs["x"]), backend.asarray(inputs["y"])
    state = optimizer.init(x[0])
    errors, weights, rates = [], [], []
    for k in range(x.shape[0]):
        error, state = optimizer.step(state, x[k], y[k])
        errors.append(error)
        weights.append(state["weight"])
        rates.append(backend.xp.exp(state["log_rate"]))
    stack = backend.xp.stack
    return {"weights": stack(weights), "rates": stack(rates), "errors": stack(errors)}


def random_hypergradient(draw: Draw) -> Case:
    """Gradients of a number of steps that hypothesis draws."""
    from hypothesis import strategies as st

    size, steps = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    numbers = decimals(np.random.default_rng(draw(st.integers(0, 1000))))
    settings = {
        "optimizer": draw(st.sampled_from(["sgd", "adam"])),
        "momentum": draw(st.sampled_from([0.0, 0.9])),
        "betas": [0.9, 0.999],
        "eps": 1e-8,
        "learning_rate": 0.1,
        "hyper_rate": draw(st.sampled_from([0.01, 0.001])),
    }
    return drawn(settings, {"params": {"theta": numbers(size)}, "steps": numbers(steps, size)})


def random_idbd(draw: Draw) -> Case:
    """A number of examples that hypothesis draws."""
    from hypothesis import strategies as st

    features, steps = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    numbers = decimals(np.random.default_rng(draw(st.integers(0, 1000))))
    settings = {"meta_rate": draw(st.sampled_from([0.1, 0.01])), "initial_rate": 0.05}
    return drawn(settings, {"x": numbers(steps, features), "y": numbers(steps)})


SELF_TUNING = (
    Computation(
        "hypergradient-descent",
        "SGD or Adam whose step size descends along its own gradient (Baydin et al. 2018, algorithms 4-6).",
        {
            "path": "the parameters after each step (steps, size)",
            "rates": "the step size of each step (steps,)",
        },
        {NUMPY: both(compute_hypergradient)[NUMPY], TORCH: torch_hypergradient},
        exact.hypergradient,
        random_hypergradient,
        "(params, data, settings): params['theta'] (size,), data.steps the gradients (steps, size)",
    ),
    Computation(
        "idbd",
        "Incremental delta-bar-delta: online step sizes of linear prediction (Sutton 1992, figure 2).",
        {
            "weights": "after each example (examples, features)",
            "rates": "the step sizes of each example (examples, features)",
            "errors": "before each step (examples,)",
        },
        both(compute_idbd),
        exact.idbd,
        random_idbd,
        "(params, data, settings): data.x (examples, features), data.y (examples,)",
    ),
)
