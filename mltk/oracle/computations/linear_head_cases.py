"""The cases of heads that are solved for: ridge and logistic regression."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mltk.oracle.case import Case
from mltk.oracle.computation import Draw
from mltk.oracle.computations.head_episodes import (
    MANY,
    MANY_COMMENT,
    Make,
    bad_setting,
    doubled,
    drawn,
    head_case,
    refused,
    with_inputs,
)

RIDGE = {"reg_lambda": 0.5, "scale": 1.0, "use_woodbury": None, "intercept": False}
LOGISTIC = {"reg_lambda": 0.8, "scale": 1.0, "steps": 3}

SINGULAR = 1e8
"""The condition of the system of the other size, d × d or N × N, for λ of a millionth."""

NEARLY_SINGULAR = 1e5
"""The same for the systems of Newton steps that have not gone far."""


def _learned(scale: float, bias: float, log_lambda: float) -> dict[str, np.ndarray]:
    numbers = {"scale": scale, "bias": bias, "log_lambda": log_lambda}
    return {name: np.asarray(value) for name, value in numbers.items()}


def ridge_cases() -> Iterator[Case]:
    """The cases of ridge regression as a head."""

    def make(name: str, comment: str, **changes: Any) -> Case:
        return head_case(name, comment, **{**RIDGE, **changes})

    yield make(
        "examples-form",
        "fewer examples than features: systems of the size of the support set (Woodbury)",
        queries=5,
        features=7,
        reg_lambda=2.5,
        scale=3.0,
        use_woodbury=True,
        seed=40,
    )
    yield make(
        "features-form",
        "more examples than features: catches λ that is scaled by the number of examples",
        tasks=3,
        shots=(3, 4),
        features=3,
        reg_lambda=0.6,
        scale=1.5,
        use_woodbury=False,
        seed=41,
    )
    yield make(
        "intercept",
        "an intercept, classes of equal size in order: catches one that is penalised",
        shots=(2, 2, 2, 2),
        balanced=True,
        queries=4,
        features=3,
        reg_lambda=1.4,
        scale=2.0,
        intercept=True,
        seed=42,
    )
    yield make(
        "learned",
        "learned numbers: catches λ in place of its logarithm, and a bias before the scale",
        tasks=3,
        shots=(2, 3),
        features=4,
        intercept=True,
        params=_learned(1.8, -0.4, 0.7),
        seed=43,
    )
    yield make("five-way-five-shot", MANY_COMMENT, reg_lambda=0.9, seed=56, **MANY)
    yield make(
        "scaled",
        "a scale and an intercept, classes of equal size in order",
        shots=(3, 3),
        balanced=True,
        features=5,
        reg_lambda=1.2,
        scale=2.5,
        intercept=True,
        seed=57,
    )
    yield make(
        "regression",
        "targets that are values",
        shots=6,
        outputs=2,
        features=3,
        queries=5,
        reg_lambda=0.4,
        scale=1.3,
        intercept=True,
        seed=44,
    )
    yield make(
        "learned-regression",
        "learned numbers, and targets that are values",
        tasks=3,
        shots=4,
        outputs=3,
        features=6,
        queries=2,
        params=_learned(0.7, 0.3, -0.6),
        seed=55,
    )
    yield from _ridge_edges(make)
    yield from refused(make)
    yield from _bad_linear(make)


def _ridge_edges(make: Make) -> Iterator[Case]:
    def edge(name: str, comment: str, **changes: Any) -> Case:
        return make(name, comment, kind="edge", **changes)

    for label, form in (("examples", True), ("features", False)):
        settings: dict[str, Any] = {"use_woodbury": form}
        yield edge(
            f"strong-{label}-form", "λ of a million: outputs near zero", reg_lambda=1e6, **settings, seed=45
        )
        yield edge(
            f"weak-{label}-form",
            "λ of a millionth, where the system is regular without it",
            condition=SINGULAR,
            shots=(1, 2) if form else (4, 2),
            features=5 if form else 2,
            reg_lambda=1e-6,
            seed=46,
            **settings,
        )
        yield edge(
            f"square-{label}-form",
            "as many examples as features",
            shots=(1, 2, 1),
            features=4,
            seed=47,
            **settings,
        )
        yield edge(
            f"other-size-{label}-form",
            "the form with the larger systems",
            shots=(4, 2) if form else (1, 1),
            features=2 if form else 5,
            seed=48,
            **settings,
        )
    yield edge("one-shot", "one example a class", shots=(1, 1, 1), features=4, seed=49)
    yield edge("one-way", "one class: the loss is zero", shots=(3,), seed=50)
    yield edge(
        "one-example",
        "an intercept and one example, which is its own mean",
        shots=1,
        outputs=1,
        intercept=True,
        seed=51,
    )
    yield doubled(edge("doubled-example", "an example that comes twice", shots=(2, 2), seed=52))
    case = edge("zero-embeddings", "a support set of zeros: no NaN", shots=(2, 1), tie=True, seed=53)
    yield with_inputs(case, support_x=np.zeros_like(case.inputs["support_x"]))
    yield edge("one-output", "one value a target", shots=5, outputs=1, seed=54)


def _bad_linear(make: Make) -> Iterator[Case]:
    """Settings that heads with a regulariser must refuse."""
    yield bad_setting(make, "zero-lambda", "no regulariser", reg_lambda=0.0)
    yield bad_setting(make, "negative-lambda", "a negative regulariser", reg_lambda=-0.5)
    yield bad_setting(make, "zero-scale", "a scale of zero", scale=0.0)
    two = {"log_lambda": np.array([0.1, 0.2])}
    yield bad_setting(make, "two-lambdas", "a learned regulariser that is not one number", params=two)


def logistic_cases() -> Iterator[Case]:
    """The cases of logistic regression as a head."""

    def make(name: str, comment: str, **changes: Any) -> Case:
        return head_case(name, comment, **{**LOGISTIC, **changes})

    yield make(
        "three-steps",
        "three Newton steps: catches one too few, and λ scaled by the number of examples",
        queries=5,
        features=4,
        reg_lambda=1.5,
        scale=2.0,
        seed=60,
    )
    yield make(
        "two-steps",
        "two Newton steps, which have not converged",
        tasks=3,
        shots=(3, 4),
        features=3,
        reg_lambda=0.6,
        scale=1.5,
        steps=2,
        seed=61,
    )
    yield make(
        "learned",
        "learned numbers: catches λ in place of its logarithm, and a bias before the scale",
        tasks=3,
        shots=(2, 2, 2, 2),
        balanced=True,
        queries=4,
        features=3,
        params=_learned(1.8, -0.4, 0.4),
        seed=62,
    )
    yield make(
        "learned-four-steps",
        "four Newton steps, and other learned numbers",
        shots=(3, 2),
        queries=3,
        features=5,
        steps=4,
        params=_learned(0.7, 0.3, -0.2),
        seed=70,
    )
    yield make("five-way-five-shot", MANY_COMMENT, reg_lambda=1.2, steps=2, seed=71, **MANY)
    yield make("one-step", "one step from zero is least squares", kind="edge", steps=1, seed=63)
    yield make(
        "converged",
        "as many steps as it takes: the optimum itself",
        kind="edge",
        steps=9,
        shots=(2, 3),
        seed=64,
    )
    yield make("strong", "λ of a million: outputs near zero", kind="edge", reg_lambda=1e6, seed=65)
    yield make(
        "weak",
        "a small λ on classes that a plane separates",
        kind="edge",
        condition=NEARLY_SINGULAR,
        reg_lambda=1e-6,
        shots=(1, 1),
        features=4,
        seed=66,
    )
    yield make("one-shot", "one example a class", kind="edge", shots=(1, 1, 1), features=4, seed=67)
    yield make("one-way", "one class, which nothing stands against", kind="edge", shots=(3,), seed=68)
    yield doubled(make("doubled-example", "an example that comes twice", kind="edge", shots=(2, 2), seed=69))
    case = make("zero-embeddings", "a support set of zeros: no NaN", kind="edge", shots=(2, 1), tie=True)
    yield with_inputs(case, support_x=np.zeros_like(case.inputs["support_x"]))
    yield from refused(make)
    yield from _bad_linear(make)
    yield bad_setting(make, "no-step", "no Newton step", steps=0)


def random_ridge(draw: Draw) -> Case:
    """A case of ridge regression as a head."""
    from hypothesis import strategies as st

    settings = {
        "reg_lambda": draw(st.sampled_from([0.5, 2.5, 0.1])),
        "scale": draw(st.sampled_from([1.0, 3.0])),
        "use_woodbury": draw(st.sampled_from([None, True, False])),
        "intercept": draw(st.booleans()),
        "params": draw(st.sampled_from([None, _learned(1.8, -0.4, 0.7)])),
    }
    return drawn(draw, **settings)


def random_logistic(draw: Draw) -> Case:
    """A case of logistic regression as a head."""
    from hypothesis import strategies as st

    settings = {
        "reg_lambda": draw(st.sampled_from([0.8, 2.5])),
        "scale": draw(st.sampled_from([1.0, 3.0])),
        "steps": draw(st.integers(1, 4)),
        "params": draw(st.sampled_from([None, _learned(1.8, -0.4, 0.7)])),
    }
    return drawn(draw, **settings)
