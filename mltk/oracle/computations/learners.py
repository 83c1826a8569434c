"""The gradient-based learners: loss and meta-gradient of an episode."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from mltk import tree
from mltk.algorithms import MAML, ImplicitMAML, Reptile
from mltk.contracts import Backend
from mltk.oracle.case import Values
from mltk.oracle.computation import Computation
from mltk.oracle.computations import random_learners
from mltk.oracle.definitions import learners as exact
from mltk.oracle.layers import model
from mltk.oracle.routes import both, episode_of, params_of

OUTPUTS = {"loss": "query loss after adaptation, mean over tasks", "gradients": "its gradient, like params"}


def compute_maml(backend: Backend, settings: Mapping[str, Any], inputs: Values) -> Values:
    """Loss and gradients of MAML and its presets."""
    rate = {} if settings["inner_lr"] is None else {"inner_lr": settings["inner_lr"]}
    learner = MAML(
        model(settings["layers"]),
        settings["loss"],
        inner_steps=settings["inner_steps"],
        first_order=settings["first_order"],
        adapt_only=settings["adapted"],
        learn_lr=settings.get("learn_lr"),
        lr_per_step=settings.get("lr_per_step", False),
        **rate,
    )
    return _value_and_grad(learner, backend, settings, inputs)


def compute_reptile(backend: Backend, settings: Mapping[str, Any], inputs: Values) -> Values:
    """Loss and direction of Reptile."""
    learner = Reptile(
        model(settings["layers"]),
        settings["loss"],
        inner_lr=settings["inner_lr"],
        inner_steps=settings["inner_steps"],
        inner_batch=settings["inner_batch"],
    )
    return _value_and_grad(learner, backend, settings, inputs)


def compute_implicit_maml(backend: Backend, settings: Mapping[str, Any], inputs: Values) -> Values:
    """Loss and gradients of implicit MAML."""
    learner = ImplicitMAML(
        model(settings["layers"]),
        settings["loss"],
        reg_lambda=settings["reg_lambda"],
        inner_lr=settings["inner_lr"],
        inner_steps=settings["inner_steps"],
        cg_steps=settings["cg_steps"],
    )
    return _value_and_grad(learner, backend, settings, inputs)


def _value_and_grad(
    learner: MAML | Reptile | ImplicitMAML, backend: Backend, settings: Mapping[str, Any], inputs: Values
) -> Values:
    value, grads = learner.value_and_grad(params_of(backend, inputs), episode_of(backend, settings, inputs))
    return {"loss": value, "gradients": tree.flatten(grads)}


def subtracted(settings: Mapping[str, Any], inputs: Values, outputs: Values) -> float:
    """How many times larger than what Reptile steps by the weights are whose difference that is."""
    weights, steps = (
        max(np.abs(array).max(initial=0.0) for array in each.values())
        for each in (inputs["params"], outputs["gradients"])
    )
    step = settings["inner_lr"] * steps
    return float(weights / step) if step else 1.0


def _learner(
    name: str,
    summary: str,
    random: Any = None,
    *,
    compute: Any = compute_maml,
    truth: Any = exact.maml,
    gradients: str = "its gradient, like params",
    **more: Any,
) -> Computation:
    return Computation(
        name, summary, {**OUTPUTS, "gradients": gradients}, both(compute), truth, random, **more
    )


COMPUTATIONS = (
    _learner(
        "maml",
        "MAML with the exact second-order gradient (Finn, Abbeel & Levine 2017, equation 1).",
        random_learners.random_maml,
        differentiable=True,
    ),
    _learner(
        "fomaml",
        "First-order MAML: the query gradient at the adapted parameters (Finn et al. 2017, section 5.2).",
        lambda draw: random_learners.random_maml(draw, first_order=True),
        differentiable=True,
    ),
    _learner(
        "anil",
        "ANIL: MAML whose inner loop moves the last layer only (Raghu, Raghu, Bengio & Vinyals 2020).",
        partial(random_learners.random_partial, "head"),
        differentiable=True,
    ),
    _learner(
        "boil",
        "BOIL: MAML whose inner loop moves all layers but the last (Oh, Yoo, Kim & Yun 2021).",
        partial(random_learners.random_partial, "body"),
        differentiable=True,
    ),
    _learner(
        "meta-sgd",
        "Meta-SGD: MAML that learns a step size for every element (Li, Zhou, Chen & Li 2017, equation 2).",
        random_learners.random_meta_sgd,
        differentiable=True,
    ),
    _learner(
        "maml-learned-rates",
        "MAML that learns step sizes per step or tensor (MAML++: Antoniou, Edwards & Storkey 2019, LSLR).",
        differentiable=True,
    ),
    _learner(
        "reptile",
        "Reptile: the sum of the gradients on the way (Nichol, Achiam & Schulman 2018, algorithm 2).",
        random_learners.random_reptile,
        compute=compute_reptile,
        gradients="(start - end) / inner_lr, the sum of the inner gradients, mean over tasks",
        cancellation=subtracted,
    ),
    _learner(
        "implicit-maml",
        "Implicit MAML at the proximal optimum (Rajeswaran, Finn, Kakade & Levine 2019, equation 6).",
        random_learners.random_implicit_maml,
        compute=compute_implicit_maml,
        truth=exact.implicit_maml,
    ),
)
