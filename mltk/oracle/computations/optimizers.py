"""The learnable inner optimiser and its transforms, and optimisers that tune their own step sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from mltk import tree
from mltk.algorithms import LearnedOptimizer
from mltk.contracts import Backend
from mltk.optim import transforms
from mltk.optim.transforms import GradientTransform
from mltk.oracle.case import Case, Values
from mltk.oracle.computation import Computation, Draw
from mltk.oracle.computations.learners import OUTPUTS
from mltk.oracle.computations.random_learners import random_maml
from mltk.oracle.computations.self_tuning import SELF_TUNING
from mltk.oracle.definitions import optimizers as exact
from mltk.oracle.layers import model
from mltk.oracle.routes import both, episode_of, params_of
from mltk.oracle.vectors import stored

Transform = Mapping[str, Any]
"""A transform in JSON: its name under ``"transform"``, and its settings."""

CLASSES: dict[str, type[GradientTransform]] = {
    "scale": transforms.Scale,
    "bias": transforms.Bias,
    "momentum": transforms.Momentum,
    "kronecker": transforms.Kronecker,
    "meta_curvature": transforms.MetaCurvature,
    "network": transforms.Network,
    "clip": transforms.Clip,
}


def transform_of(description: Transform) -> GradientTransform:
    """The transform of a description."""
    if description["transform"] == "chain":
        return transforms.chain(*map(transform_of, description["transforms"]))
    settings = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in description.items()
        if key != "transform"
    }
    return CLASSES[description["transform"]](**settings)


def compute_learned_optimizer(backend: Backend, settings: Mapping[str, Any], inputs: Values) -> Values:
    """Loss and gradients of a learned optimiser."""
    params = params_of(backend, inputs)
    params.setdefault("transform", {})  # without learned arrays no name leads to it
    value, grads = _learner(settings).value_and_grad(params, episode_of(backend, settings, inputs))
    return {"loss": value, "gradients": tree.flatten(grads)}


def _learner(settings: Mapping[str, Any]) -> LearnedOptimizer:
    return LearnedOptimizer(
        model(settings["layers"]),
        settings["loss"],
        transform_of(settings["transform"]),
        inner_steps=settings["inner_steps"],
        lr=settings["inner_lr"],
        learn_init=settings["learn_init"],
        first_order=settings["first_order"],
        adapt_only=settings["adapted"],
    )


def learned_numbers(
    description: Transform, adapted: Mapping[str, tuple[int, ...]], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Learned arrays away from the identity, of few decimals."""
    kind = description["transform"]
    if kind == "chain":
        return {
            f"{i}.{name}": array
            for i, each in enumerate(description["transforms"])
            for name, array in learned_numbers(each, adapted, rng).items()
        }
    low, high, divisor = {"scale": (3, 20, 10), "momentum": (2, 10, 10), "bias": (-10, 11, 10)}.get(
        kind, (-10, 11, 20)
    )
    numbers = {
        name: np.asarray(rng.integers(low, high, shape) / divisor)
        for name, shape in transform_of(description).shapes(adapted).items()
    }
    if kind in ("kronecker", "meta_curvature"):
        return {name: np.eye(len(array)) + array / 2 for name, array in numbers.items()}
    return numbers


def random_case(name: str, draw: Draw) -> Case:
    """A case whose extents and learned numbers hypothesis draws, with a transform of the test vectors."""
    from hypothesis import strategies as st

    known = [case.settings["transform"] for case in stored(name) if case.kind == "valid"]
    description = draw(st.sampled_from(known))
    case, seed = random_maml(draw, inner_lr=0.1), draw(st.integers(0, 1000))
    shapes = model(case.settings["layers"]).shapes
    numbers = learned_numbers(description, shapes, np.random.default_rng(seed))
    arrays = {f"transform.{name}": array for name, array in numbers.items()}
    inputs = {**case.inputs, "params": {**case.inputs["params"], **arrays}}
    settings = {**case.settings, "learn_init": True, "transform": description}
    return dataclasses.replace(case, settings=settings, inputs=inputs)


LEARNED = "learned-optimizer-"

SUMMARIES = {
    "scale": "learned learning rates (Li, Zhou, Chen & Li 2017)",
    "bias": "a learned term beside the gradient",
    "momentum": "a learned decay of a velocity",
    "kronecker": "products with a Kronecker matrix (KFO: Arnold, Iqbal & Sha 2021)",
    "meta-curvature": "products with matrices along each axis (Park & Oliva 2019, equation 5)",
    "network": "a network over the coordinates of the gradient (after Andrychowicz et al. 2016)",
    "clip": "clipping by norm or value, which gradients flow through (Pascanu, Mikolov & Bengio 2013)",
    "chain": "several transforms in a row",
}

COMPUTATIONS = (
    *(
        Computation(
            f"{LEARNED}{kind}",
            f"An inner loop along transformed gradients: {summary}.",
            OUTPUTS,
            both(compute_learned_optimizer),
            exact.learned_optimizer,
            partial(random_case, f"{LEARNED}{kind}"),
        )
        for kind, summary in SUMMARIES.items()
    ),
    *SELF_TUNING,
)
