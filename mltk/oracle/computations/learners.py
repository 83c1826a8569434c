"""The gradient-based learners: loss and meta-gradient of an episode."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np

from mltk import ops, tree
from mltk.algorithms import MAML, ImplicitMAML, Reptile
from mltk.contracts import Backend
from mltk.models import Sequential, mlp
from mltk.oracle.case import Case, Values
from mltk.oracle.computation import Computation, Draw
from mltk.oracle.computations.balanced_cases import balanced
from mltk.oracle.computations.conventions import NO_QUOTIENT
from mltk.oracle.computations.episodes import episode
from mltk.oracle.computations.learner_cases import drawn, edges, generic, refused
from mltk.oracle.exact import learners as exact
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


def all_of(**settings: Any) -> Iterator[Case]:
    """Ordinary cases, edges, and what must be refused."""
    yield from generic(**settings)
    yield from balanced(**settings)
    yield from edges(**settings)
    yield from refused(**settings)


def adapting(part: Literal["head", "body"], cases: Iterable[Case]) -> Iterator[Case]:
    """Cases whose inner loop moves the last layer that has parameters, or all but that."""
    for case in cases:
        names = list(model(case.settings["layers"]).shapes)
        last = names[-1].partition(".")[0]
        adapted = [name for name in names if (name.partition(".")[0] == last) == (part == "head")]
        if adapted != names and adapted:
            yield dataclasses.replace(case, settings={**case.settings, "adapted": adapted})


def adapting_one(part: Literal["head", "body"], case: Case) -> Case:
    """See `adapting`, for a case of a network of several layers."""
    return next(adapting(part, [case]))


def with_rates(case: Case) -> Case:
    """A case with a learned step size for each element, all of them different, around the constant one."""
    params, rate = case.inputs["params"], case.settings["inner_lr"]
    network = model(case.settings["layers"])
    count = sum(int(np.prod(shape)) for shape in network.shapes.values())
    factors = (64 + np.random.default_rng(count).permutation(count) - count // 2) / 64
    ends = np.cumsum([int(np.prod(shape)) for shape in network.shapes.values()])
    parts = np.split(rate * factors, ends[:-1])
    rates = {
        f"lr.{name}": part.reshape(shape)
        for (name, shape), part in zip(network.shapes.items(), parts, strict=True)
    }
    settings = {**case.settings, "inner_lr": None, "learn_lr": "element", "lr_per_step": False}
    return dataclasses.replace(case, settings=settings, inputs={**case.inputs, "params": {**params, **rates}})


def meta_sgd_cases() -> Iterator[Case]:
    """The cases of Meta-SGD."""
    yield from map(with_rates, all_of())
    case = with_rates(next(iter(generic())))
    params = case.inputs["params"]

    def changed(name: str, comment: str, kind: Any, rate: np.ndarray | None) -> Case:
        rates = {key: array for key, array in {**params, "lr.0.bias": rate}.items() if array is not None}
        inputs = {**case.inputs, "params": rates}
        return dataclasses.replace(case, name=name, comment=comment, kind=kind, inputs=inputs)

    signs = params["lr.0.bias"] * np.array([-1, 0, 1, -1])
    yield changed(
        "rates-of-any-sign", "step sizes below zero and at zero, which learn all the same", "edge", signs
    )
    yield changed("missing-rate", "a parameter without its step size", "must-raise", None)
    yield changed("rate-of-wrong-shape", "a step size that would broadcast", "must-raise", np.array([0.1]))


def learned_rates_cases() -> Iterator[Case]:
    """The cases of other learned step sizes than one for each element."""
    rng = np.random.default_rng(0)
    bases = {case.name: case for case in generic()}
    for base, per, each, comment in (
        ("regression", "scalar", False, "a single step size, whose gradient is a sum over all elements"),
        ("classification", "tensor", False, "a step size for each tensor"),
        ("relu", "scalar", True, "a step size for each step: catches their order"),
        ("regression", "tensor", True, "a step size for each tensor in each step, as in MAML++"),
        ("classification", "element", True, "a step size for each element in each step"),
    ):
        case = bases[base]
        steps = (case.settings["inner_steps"],) if each else ()
        learner = MAML(model(case.settings["layers"]), "mse", learn_lr=per)  # type: ignore[arg-type]
        rates = {
            name: np.asarray(rng.integers(5, 40, (*steps, *shape)) / 100)
            for name, shape in learner.meta_shapes.items()
            if name.partition(".")[0] == "lr"
        }
        settings = {**case.settings, "inner_lr": None, "learn_lr": per, "lr_per_step": each}
        inputs = {**case.inputs, "params": {**case.inputs["params"], **rates}}
        name = f"{per}-per-step" if each else per
        yield dataclasses.replace(case, name=name, comment=comment, settings=settings, inputs=inputs)


def subtracted(settings: Mapping[str, Any], inputs: Values, outputs: Values) -> float:
    """How many times larger than what Reptile steps by the weights are whose difference that is."""
    weights, steps = (
        max(np.abs(array).max(initial=0.0) for array in each.values())
        for each in (inputs["params"], outputs["gradients"])
    )
    step = settings["inner_lr"] * steps
    return float(weights / step) if step else 1.0


def reptile_cases() -> Iterator[Case]:
    """The cases of Reptile."""
    for case in all_of():
        if case.name == "zero-rate":
            case = dataclasses.replace(case, convention=NO_QUOTIENT)
        if case.settings["inner_steps"]:
            yield _for_reptile(case)
    for name, kind, batch, shots, comment in (
        ("batches", "valid", 2, 4, "other support examples in each step, in their order"),
        (
            "batches-again",
            "edge",
            2,
            5,
            "after the last whole batch, the first again; an example is left over",
        ),
        ("large-batch", "edge", 9, 3, "a batch larger than the support set is the support set"),
    ):
        case = episode(
            name,
            comment,
            mlp((3, 4, 2), activation="tanh"),
            kind=kind,  # type: ignore[arg-type]
            features=(3,),
            tasks=3,
            shots=shots,
            queries=2,
            seed=11,
            inner_lr=0.3,
            inner_steps=3,
        )
        yield _for_reptile(case, batch)


def _for_reptile(case: Case, batch: int | None = None) -> Case:
    """A case without the settings that Reptile does not have."""
    settings = {key: value for key, value in case.settings.items() if key not in ("first_order", "adapted")}
    return dataclasses.replace(case, settings={**settings, "inner_batch": batch})


def random_reptile(draw: Draw) -> Case:
    """A case with whole support sets or batches."""
    from hypothesis import strategies as st

    case = drawn(draw, inner_steps=draw(st.integers(1, 4)))
    norms = any(layer["layer"] == "batch_norm" for layer in case.settings["layers"])
    return _for_reptile(case, None if norms else draw(st.sampled_from([None, 1, 2, 3])))


CONVERGED = "; descent and conjugate gradients have converged, so that any solver gives the same"


def implicit_maml_cases() -> Iterator[Case]:
    """The cases of implicit MAML, all of which converge to the last digit."""
    settings = {"reg_lambda": 2.0, "inner_lr": 0.1, "inner_steps": 600, "cg_steps": 60}
    smooth = mlp((1, 3, 2), activation="tanh")

    def case(name: str, comment: str, network: Sequential = smooth, **changes: Any) -> Case:
        features = next(iter(network.shapes.values()))[1:]
        return episode(name, comment + CONVERGED, network, features=features, **{**settings, **changes})

    yield case("regression", "a smooth network", tasks=3, shots=4, queries=5)
    yield case(
        "classification",
        "classes of unequal size",
        mlp((3, 2, 3), activation="sigmoid"),
        shots=(2, 1, 3),
        queries=4,
        seed=1,
        reg_lambda=0.5,
        inner_lr=0.4,
    )
    yield case(
        "tidy",
        "classes of equal size in order",
        mlp((3, 2, 3), activation="sigmoid"),
        tasks=4,
        shots=(2, 2, 2),
        queries=3,
        balanced=True,
        seed=3,
        reg_lambda=0.6,
        inner_lr=0.4,
    )
    yield case(
        "batch-norm-support",
        "the support set normalises the queries at the optimum",
        Sequential(
            [
                ops.Linear(3, 2, bias=False),
                ops.BatchNorm(2, spatial_axes=0, statistics="support"),
                ops.Tanh(),
                ops.Linear(2, 3),
            ]
        ),
        shots=(2, 3, 1),
        queries=5,
        seed=2,
        reg_lambda=3.0,
        inner_lr=0.15,
    )
    yield case("strong", "a start that holds fast", kind="edge", reg_lambda=1000.0, inner_lr=0.001)
    yield case("one-task", "a single task of one example", kind="edge", tasks=1, shots=1, queries=1)
    stays = {"support_y": np.zeros((2, 3, 2)), "query_x": np.ones((2, 2, 1))}
    zeros = {name: np.zeros(shape) for name, shape in smooth.shapes.items() if name.startswith("2.")}
    yield case(
        "optimum-at-start",
        "a support loss that is smallest at the start: no descent, and yet a Hessian",
        kind="edge",
        params=zeros,
        inputs=stays,
    )
    for bad in refused():
        kept = {key: bad.settings[key] for key in ("layers", "loss", "ways")}
        yield dataclasses.replace(bad, settings={**kept, **settings})


def random_implicit_maml(draw: Draw) -> Case:
    """A case of a linear network, for which descent converges whatever the numbers."""
    from hypothesis import strategies as st

    features, outputs = (draw(st.integers(1, 3)) for _ in range(2))
    classes = draw(st.booleans())
    tidy = classes and draw(st.booleans())
    shots: int | tuple[int, ...] = draw(st.integers(1, 4))
    if classes:
        counts = st.integers(1, 3)
        shots = (draw(counts),) * (outputs + 1) if tidy else tuple(draw(counts) for _ in range(outputs + 1))
    return episode(
        "random",
        "drawn at random",
        Sequential([ops.Linear(features, outputs + classes)]),
        features=(features,),
        tasks=draw(st.integers(1, 3)),
        shots=shots,
        queries=(outputs + 1) * draw(st.integers(1, 2)) if tidy else draw(st.integers(1, 4)),
        balanced=tidy,
        seed=draw(st.integers(0, 1000)),
        reg_lambda=draw(st.sampled_from([2.0, 4.0])),
        inner_lr=0.05,
        inner_steps=500,
        cg_steps=40,
    )


def _learner(
    name: str,
    summary: str,
    cases: Any,
    random: Any = None,
    *,
    compute: Any = compute_maml,
    truth: Any = exact.maml,
    gradients: str = "its gradient, like params",
    **more: Any,
) -> Computation:
    return Computation(
        name, summary, {**OUTPUTS, "gradients": gradients}, both(compute), truth, cases, random, **more
    )


COMPUTATIONS = (
    _learner(
        "maml",
        "MAML with the exact second-order gradient (Finn, Abbeel & Levine 2017, equation 1).",
        all_of,
        drawn,
        differentiable=True,
    ),
    _learner(
        "fomaml",
        "First-order MAML: the query gradient at the adapted parameters (Finn et al. 2017, section 5.2).",
        lambda: all_of(first_order=True),
        lambda draw: drawn(draw, first_order=True),
        differentiable=True,
    ),
    _learner(
        "anil",
        "ANIL: MAML whose inner loop moves the last layer only (Raghu, Raghu, Bengio & Vinyals 2020).",
        lambda: adapting("head", all_of()),
        lambda draw: adapting_one("head", drawn(draw)),
        differentiable=True,
    ),
    _learner(
        "boil",
        "BOIL: MAML whose inner loop moves all layers but the last (Oh, Yoo, Kim & Yun 2021).",
        lambda: adapting("body", all_of()),
        lambda draw: adapting_one("body", drawn(draw)),
        differentiable=True,
    ),
    _learner(
        "meta-sgd",
        "Meta-SGD: MAML that learns a step size for every element (Li, Zhou, Chen & Li 2017, equation 2).",
        meta_sgd_cases,
        lambda draw: with_rates(drawn(draw)),
        differentiable=True,
    ),
    _learner(
        "maml-learned-rates",
        "MAML that learns step sizes per step or tensor (MAML++: Antoniou, Edwards & Storkey 2019, LSLR).",
        learned_rates_cases,
        differentiable=True,
    ),
    _learner(
        "reptile",
        "Reptile: the sum of the gradients on the way (Nichol, Achiam & Schulman 2018, algorithm 2).",
        reptile_cases,
        random_reptile,
        compute=compute_reptile,
        truth=exact.reptile,
        gradients="(start - end) / inner_lr, the sum of the inner gradients, mean over tasks",
        cancellation=subtracted,
    ),
    _learner(
        "implicit-maml",
        "Implicit MAML at the proximal optimum (Rajeswaran, Finn, Kakade & Levine 2019, equation 6).",
        implicit_maml_cases,
        random_implicit_maml,
        compute=compute_implicit_maml,
        truth=exact.implicit_maml,
    ),
)
