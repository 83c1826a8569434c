"""Optimisers that tune their own step sizes: hypergradient descent and incremental delta-bar-delta."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mltk.contracts import Backend
from mltk.optim import IDBD, SGD, Adam, HypergradientDescent, apply_updates
from mltk.oracle.case import Case, Kind, Values
from mltk.oracle.computation import NUMPY, TORCH, Computation, Draw
from mltk.oracle.computations.episodes import decimals
from mltk.oracle.exact import optimizers as exact
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


def hypergradient_case(
    name: str,
    comment: str,
    *,
    kind: Kind = "valid",
    size: int = 3,
    steps: int = 5,
    seed: int = 0,
    **settings: Any,
) -> Case:
    """A case of hypergradient descent along given gradients."""
    numbers = decimals(np.random.default_rng(seed))
    defaults = {"optimizer": "sgd", "momentum": 0.0, "betas": [0.9, 0.999], "eps": 1e-8}
    rates = {"learning_rate": 0.1, "hyper_rate": 0.01}
    inputs = {"params": {"theta": numbers(size)}, "steps": numbers(steps, size)}
    return Case(name, kind, comment, {**defaults, **rates, **settings}, inputs)


def hypergradient_cases() -> Iterator[Case]:
    """The cases of hypergradient descent."""
    yield hypergradient_case(
        "sgd", "the step size changes before the step: catches one that changes after it"
    )
    yield hypergradient_case(
        "momentum",
        "with momentum the last direction counts, not the last gradient",
        momentum=0.7,
        size=4,
        seed=1,
    )
    yield hypergradient_case(
        "adam", "with Adam the last direction counts", optimizer="adam", size=2, steps=6, seed=2
    )
    yield hypergradient_case(
        "adam-betas",
        "other decays: catches means that are not corrected for their start",
        optimizer="adam",
        betas=[0.5, 0.8],
        eps=0.01,
        seed=3,
    )
    yield hypergradient_case("one-step", "the first step has no hypergradient", kind="edge", steps=1, seed=4)
    yield hypergradient_case(
        "constant", "a hyper rate of zero is the optimiser itself", kind="edge", hyper_rate=0.0
    )
    yield hypergradient_case(
        "negative-rate", "a step size that falls below zero stays there", kind="edge", hyper_rate=0.5, seed=5
    )


def random_hypergradient(draw: Draw) -> Case:
    """A case whose extents hypothesis draws."""
    from hypothesis import strategies as st

    return hypergradient_case(
        "random",
        "drawn at random",
        size=draw(st.integers(1, 4)),
        steps=draw(st.integers(1, 6)),
        seed=draw(st.integers(0, 1000)),
        optimizer=draw(st.sampled_from(["sgd", "adam"])),
        momentum=draw(st.sampled_from([0.0, 0.9])),
        hyper_rate=draw(st.sampled_from([0.01, 0.001])),
    )


def idbd_case(
    name: str,
    comment: str,
    *,
    kind: Kind = "valid",
    features: int = 3,
    steps: int = 5,
    seed: int = 0,
    **rates: Any,
) -> Case:
    """A case of incremental delta-bar-delta."""
    numbers = decimals(np.random.default_rng(seed))
    settings = {"meta_rate": 0.1, "initial_rate": 0.05, **rates}
    return Case(name, kind, comment, settings, {"x": numbers(steps, features), "y": numbers(steps)})


def idbd_cases() -> Iterator[Case]:
    """The cases of incremental delta-bar-delta."""
    yield idbd_case("online", "catches a step with the step size from before the example")
    yield idbd_case("two-inputs", "other rates", features=2, steps=7, seed=1, meta_rate=0.3, initial_rate=0.1)
    yield idbd_case("four-inputs", "more inputs than examples", features=4, steps=3, seed=2, initial_rate=0.2)
    yield idbd_case("least-mean-squares", "a meta rate of zero", kind="edge", meta_rate=0.0)
    yield idbd_case(
        "overshooting",
        "steps that overshoot: the trace is cut at zero",
        kind="edge",
        initial_rate=0.9,
        seed=3,
    )
    case = idbd_case("silent-inputs", "inputs of zero move nothing", kind="edge")
    yield dataclasses.replace(case, inputs={**case.inputs, "x": case.inputs["x"] * np.array([0.0, 1.0, 0.0])})


def random_idbd(draw: Draw) -> Case:
    """A case whose extents hypothesis draws."""
    from hypothesis import strategies as st

    return idbd_case(
        "random",
        "drawn at random",
        features=draw(st.integers(1, 4)),
        steps=draw(st.integers(1, 6)),
        seed=draw(st.integers(0, 1000)),
        meta_rate=draw(st.sampled_from([0.1, 0.01])),
    )


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
        hypergradient_cases,
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
        idbd_cases,
        random_idbd,
        "(params, data, settings): data.x (examples, features), data.y (examples,)",
    ),
)
