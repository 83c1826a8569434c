"""The gradient-based learners: loss and meta-gradient of an episode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mltk import models, tree
from mltk.algorithms import MAML
from mltk.backend import Backend
from mltk.oracle.case import Case, Values
from mltk.oracle.computation import Computation, Draw
from mltk.oracle.exact import learners as exact
from mltk.oracle.layers import describe_model, model
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


def regression(
    name: str,
    comment: str,
    *,
    kind: Any = "valid",
    sizes: tuple[int, ...] = (2, 3, 2),
    activation: str = "tanh",
    tasks: int = 2,
    shots: int = 3,
    queries: int = 2,
    seed: int = 0,
    **settings: Any,
) -> Case:
    """A case of regression on numbers of one decimal, which are short to read."""
    network = models.mlp(sizes, activation=activation)
    rng = np.random.default_rng(seed)

    def numbers(*shape: int) -> np.ndarray:
        return rng.integers(-20, 21, shape) / 10

    inputs = {
        "params": {key: numbers(*shape) / 2 for key, shape in network.shapes.items()},
        "support_x": numbers(tasks, shots, sizes[0]),
        "support_y": numbers(tasks, shots, sizes[-1]),
        "query_x": numbers(tasks, queries, sizes[0]),
        "query_y": numbers(tasks, queries, sizes[-1]),
    }
    defaults = {"inner_lr": 0.1, "inner_steps": 2, "first_order": False, "adapted": None, "ways": None}
    return Case(
        name,
        kind,
        comment,
        {"layers": describe_model(network), "loss": "mse", **defaults, **settings},
        inputs,
    )


def maml_cases() -> Iterable[Case]:
    """The cases of MAML."""
    yield regression("two-steps", "two inner steps of a small network on two tasks")
    yield regression("no-step", "without inner steps it is the query gradient", kind="edge", inner_steps=0)


def random_regression(draw: Draw) -> Case:
    """A case of regression whose extents hypothesis draws and shrinks."""
    from hypothesis import strategies as st

    return regression(
        "random",
        "drawn at random",
        sizes=(draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 2))),
        activation=draw(st.sampled_from(["tanh", "relu", "sigmoid", "silu"])),
        tasks=draw(st.integers(1, 3)),
        shots=draw(st.integers(1, 4)),
        queries=draw(st.integers(1, 4)),
        seed=draw(st.integers(0, 1000)),
        inner_lr=draw(st.sampled_from([0.1, 0.5, 0.01])),
        inner_steps=draw(st.integers(0, 3)),
    )


COMPUTATIONS = (
    Computation(
        "maml",
        "MAML with the exact second-order gradient (Finn, Abbeel & Levine 2017, equation 1).",
        OUTPUTS,
        both(compute_maml),
        exact.maml,
        maml_cases,
        random_regression,
    ),
)
