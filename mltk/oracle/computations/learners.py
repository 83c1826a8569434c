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


Learner = MAML | Reptile | ImplicitMAML

SETTINGS: dict[type[Learner], tuple[str, ...]] = {
    MAML: ("inner_lr", "inner_steps", "first_order", "adapted", "learn_lr", "lr_per_step"),
    Reptile: ("inner_lr", "inner_steps", "inner_batch"),
    ImplicitMAML: ("reg_lambda", "inner_lr", "inner_steps", "cg_steps"),
}
"""Those of a case that a learner takes."""

NAMES = {"adapted": "adapt_only"}
"""Settings that learners know under another name."""


def compute(kind: type[Learner], backend: Backend, settings: Mapping[str, Any], inputs: Values) -> Values:
    """Loss and gradients of a learner with the settings of a case; ``None`` leaves what is the default."""
    given = {name: settings.get(name) for name in SETTINGS[kind]}
    own = {NAMES.get(name, name): value for name, value in given.items() if value is not None}
    learner = kind(model(settings["layers"]), settings["loss"], **own)
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
    kind: type[Learner] = MAML,
    truth: Any = exact.maml,
    gradients: str = "its gradient, like params",
    **more: Any,
) -> Computation:
    return Computation(
        name,
        summary,
        {**OUTPUTS, "gradients": gradients},
        both(partial(compute, kind)),
        truth,
        random,
        **more,
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
        kind=Reptile,
        gradients="(start - end) / inner_lr, the sum of the inner gradients, mean over tasks",
        cancellation=subtracted,
    ),
    _learner(
        "implicit-maml",
        "Implicit MAML at the proximal optimum (Rajeswaran, Finn, Kakade & Levine 2019, equation 6).",
        random_learners.random_implicit_maml,
        kind=ImplicitMAML,
        truth=exact.implicit_maml,
    ),
)
