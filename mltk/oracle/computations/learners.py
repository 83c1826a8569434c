"""The gradient-based learners: loss and meta-gradient of an episode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mltk import tree
from mltk.algorithms import MAML
from mltk.backend import Backend
from mltk.oracle.case import Case, Values
from mltk.oracle.computation import Computation
from mltk.oracle.computations.learner_cases import drawn, edges, generic, refused
from mltk.oracle.exact import learners as exact
from mltk.oracle.layers import model
from mltk.oracle.routes import both, episode_of, params_of

OUTPUTS = {"loss": "query loss after adaptation, mean over tasks", "gradients": "its gradient, like params"}


def compute_maml(backend: Backend, settings: Mapping[str, Any], inputs: Values) -> Values:
    """Loss and gradients of MAML and its presets."""
    learner = MAML(
        model(settings["layers"]),
        settings["loss"],
        inner_lr=settings["inner_lr"],
        inner_steps=settings["inner_steps"],
        first_order=settings["first_order"],
        adapt_only=settings["adapted"],
    )
    value, grads = learner.value_and_grad(params_of(backend, inputs), episode_of(backend, settings, inputs))
    return {"loss": value, "gradients": tree.flatten(grads)}


def maml_cases() -> Iterable[Case]:
    """The cases of MAML."""
    yield from generic()
    yield from edges()
    yield from refused()


COMPUTATIONS = (
    Computation(
        "maml",
        "MAML with the exact second-order gradient (Finn, Abbeel & Levine 2017, equation 1).",
        OUTPUTS,
        both(compute_maml),
        exact.maml,
        maml_cases,
        drawn,
    ),
)
