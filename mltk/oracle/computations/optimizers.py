"""The learnable inner optimiser and its transforms, and optimisers that tune their own step sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from mltk import tree
from mltk.algorithms import LearnedOptimizer
from mltk.contracts import Backend
from mltk.optim import transforms
from mltk.optim.transforms import GradientTransform
from mltk.oracle.case import Case, Kind, Values
from mltk.oracle.computation import Computation, Draw
from mltk.oracle.computations.learner_cases import drawn, edges, generic, refused
from mltk.oracle.computations.learners import OUTPUTS
from mltk.oracle.computations.self_tuning import SELF_TUNING
from mltk.oracle.exact import optimizers as exact
from mltk.oracle.layers import model
from mltk.oracle.routes import both, episode_of, params_of

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

IMAGES = "images"
"""The ordinary case whose parameters have four axes."""

VARIANTS: dict[str, tuple[tuple[str, Transform, str], ...]] = {
    "scale": (
        ("regression", {"per": "element"}, "a factor for each element"),
        ("classification", {"per": "tensor"}, "a factor for each tensor, whose gradient is a sum"),
        ("relu", {"per": "scalar"}, "a single factor, whose gradient is a sum over all tensors"),
    ),
    "bias": (
        ("regression", {}, "catches a term that is added after the step size"),
        ("classification", {}, "the term moves every task alike"),
        ("relu", {}, "the term also moves units that no example reaches"),
    ),
    "momentum": (
        ("regression", {"per": "scalar"}, "three steps: catches a velocity that is damped by 1 - momentum"),
        ("classification", {"per": "tensor"}, "a decay for each tensor"),
        ("relu", {"per": "element"}, "a decay for each element"),
    ),
    "kronecker": (
        ("regression", {}, "catches a right factor that is not transposed"),
        ("classification", {}, "a vector has a left factor only"),
        (IMAGES, {}, "of a convolution each filter is a matrix of input channels by pixels"),
    ),
    "meta_curvature": (
        ("regression", {}, "catches matrices that are exchanged or not transposed"),
        ("classification", {}, "a vector has one matrix only"),
        (IMAGES, {}, "of a convolution outputs, inputs and pixels each have a matrix"),
    ),
    "network": (
        (
            "regression",
            {"hidden": [3], "activation": "tanh", "shared": True, "scale": 10.0},
            "one small network for all numbers of all tensors",
        ),
        (
            "classification",
            {"hidden": [2], "activation": "sigmoid", "shared": False, "scale": 5.0},
            "a network for each tensor",
        ),
        (
            "relu",
            {"hidden": [2, 3], "activation": "tanh", "shared": True, "scale": 2.0},
            "many gradients are small or zero, where the features are linear",
        ),
    ),
    "clip": (
        ("regression", {"limit": 1.5, "by": "norm"}, "the norm is that of a task's tensors together"),
        ("classification", {"limit": 0.25, "by": "norm"}, "catches a factor that no gradient flows through"),
        ("relu", {"limit": 0.1, "by": "value"}, "every number is limited by itself"),
    ),
    "chain": (
        (
            "regression",
            {
                "transforms": [
                    {"transform": "clip", "limit": 1.5, "by": "norm"},
                    {"transform": "momentum", "per": "tensor"},
                    {"transform": "scale", "per": "element"},
                ]
            },
            "clipping, then momentum, then scales: catches another order",
        ),
        (
            "classification",
            {"transforms": [{"transform": "kronecker"}, {"transform": "scale", "per": "tensor"}]},
            "a matrix product, then scales",
        ),
        (
            "relu",
            {"transforms": [{"transform": "scale", "per": "scalar"}, {"transform": "bias"}]},
            "a scale, then a term that it does not scale",
        ),
    ),
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


def with_transform(
    case: Case,
    description: Transform,
    *,
    seed: int = 0,
    learned: Mapping[str, np.ndarray] | None = None,
    learn_init: bool = True,
) -> Case:
    """A case of a learned optimiser.

    Args:
        case: Of MAML.
        description: The transform.
        seed: Of the learned numbers.
        learned: What stands in place of them.
        learn_init: A setting.
    """
    settings = {**case.settings, "learn_init": learn_init, "transform": dict(description)}
    shapes = model(case.settings["layers"]).shapes
    if settings["adapted"] is not None:
        shapes = {name: shapes[name] for name in settings["adapted"]}
    numbers = learned_numbers(description, shapes, np.random.default_rng(seed))
    arrays = {f"transform.{name}": array for name, array in {**numbers, **(learned or {})}.items()}
    inputs = {**case.inputs, "params": {**case.inputs["params"], **arrays}}
    return dataclasses.replace(case, settings=settings, inputs=inputs)


def _described(kind: str) -> list[tuple[str, Transform, str]]:
    return [(base, {"transform": kind, **settings}, comment) for base, settings, comment in VARIANTS[kind]]


def cases(kind: str) -> Iterator[Case]:
    """The cases of a transform."""
    bases = {case.name: case for case in generic()}
    described = _described(kind)
    for seed, (base, description, comment) in enumerate(described, 10 * list(VARIANTS).index(kind)):
        rate = 0.1 if kind in ("network", "bias", "chain") else bases[base].settings["inner_lr"]
        case = dataclasses.replace(bases[base], comment=comment)
        case = dataclasses.replace(case, settings={**case.settings, "inner_lr": rate})
        yield with_transform(case, description, seed=seed)
    yield from _edges(kind, described, bases)
    first = described[0][1]
    for bad in refused():
        yield with_transform(bad, first)
    yield from _bad_learned(with_transform(bases["regression"], first))


def _edges(
    kind: str, described: Iterable[tuple[str, Transform, str]], bases: Mapping[str, Case]
) -> Iterator[Case]:
    _, description, _ = next(iter(described))

    def edge(base: Case, name: str, comment: str, kind: Kind = "edge", **settings: Any) -> Case:
        changed = {**base.settings, **settings}
        return dataclasses.replace(base, name=name, comment=comment, kind=kind, settings=changed)

    for case in edges():
        if case.name in ("no-step", "one-step", "one-example", "dead-relus"):
            yield with_transform(case, description, seed=3)
    case = edge(
        bases["relu"], "head-only", "learned arrays only for what adapts", adapted=["4.weight", "4.bias"]
    )
    yield with_transform(case, description, seed=4)
    case = edge(bases["relu"], "start-is-fixed", "the start is not learned: its gradient is zero")
    yield with_transform(case, description, seed=5, learn_init=False)
    case = edge(bases["regression"], "identity", "at its start the transform changes nothing: this is MAML")
    if kind == "clip":
        yield with_transform(case, {**description, "limit": 1e6})
    elif kind != "chain":
        shapes = model(case.settings["layers"]).shapes
        start = tree.flatten(transform_of(description).init(shapes, np.random.default_rng(0)))
        if kind == "network":  # only its last layer must be zero
            start = {name: array for name, array in start.items() if not array.any()}
        yield with_transform(case, description, learned=start)


def _bad_learned(case: Case) -> Iterator[Case]:
    params = case.inputs["params"]
    name = next((name for name in params if name.startswith("transform.")), None)
    if name is None:
        return
    fewer = {key: array for key, array in params.items() if key != name}
    longer = {**params, name: np.ones((*params[name].shape, 2))}
    for label, comment, changed in (
        ("missing-learned", "an array of the transform that is missing", fewer),
        ("learned-of-wrong-shape", "an array of the transform with an axis too many", longer),
    ):
        inputs = {**case.inputs, "params": changed}
        yield dataclasses.replace(case, name=label, comment=comment, kind="must-raise", inputs=inputs)


def random_case(kind: str, draw: Draw) -> Case:
    """A case whose extents, transform and learned numbers hypothesis draws."""
    from hypothesis import strategies as st

    _, description, _ = draw(st.sampled_from(_described(kind)))
    return with_transform(drawn(draw, inner_lr=0.1), description, seed=draw(st.integers(0, 1000)))


SUMMARIES = {
    "scale": "learned learning rates (Li, Zhou, Chen & Li 2017)",
    "bias": "a learned term beside the gradient",
    "momentum": "a learned decay of a velocity",
    "kronecker": "products with a Kronecker matrix (KFO: Arnold, Iqbal & Sha 2021)",
    "meta_curvature": "products with matrices along each axis (Park & Oliva 2019, equation 5)",
    "network": "a network over the coordinates of the gradient (after Andrychowicz et al. 2016)",
    "clip": "clipping by norm or value, which gradients flow through (Pascanu, Mikolov & Bengio 2013)",
    "chain": "several transforms in a row",
}

COMPUTATIONS = (
    *(
        Computation(
            f"learned-optimizer-{kind.replace('_', '-')}",
            f"An inner loop along transformed gradients: {summary}.",
            OUTPUTS,
            both(compute_learned_optimizer),
            exact.learned_optimizer,
            partial(cases, kind),
            partial(random_case, kind),
        )
        for kind, summary in SUMMARIES.items()
    ),
    *SELF_TUNING,
)
