"""The cases of matching networks with full context embeddings, whose LSTMs have parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mltk.oracle.case import Case
from mltk.oracle.computation import Draw
from mltk.oracle.computations.head_episodes import (
    bad_setting,
    doubled,
    drawn,
    head_case,
    refused,
    with_inputs,
)

FULL_CONTEXT = {"temperature": 1.0, "processing_steps": 2}


def context_params(features: int, seed: int) -> dict[str, np.ndarray]:
    """The LSTMs of the full context, in tenths."""
    from mltk.heads import FullContextMatchingHead

    rng = np.random.default_rng(seed)
    shapes = FullContextMatchingHead(features).shapes
    return {name: rng.integers(-9, 10, shape) / 10 for name, shape in shapes.items()}


def full_context_cases() -> Iterator[Case]:
    """The cases of matching networks with full context embeddings."""

    def make(name: str, comment: str, **changes: Any) -> Case:
        chosen = {"features": 2, **FULL_CONTEXT, **changes}
        params = context_params(chosen["features"], chosen.get("seed", 0))
        return head_case(name, comment, **{"params": params, **chosen})

    yield make(
        "three-readings",
        "three processing steps: catches one too few or too many, and a gate in the wrong place",
        queries=5,
        temperature=0.4,
        processing_steps=3,
        seed=30,
    )
    yield make(
        "two-readings",
        "unequal class counts: catches an order of the support set that is reversed",
        tasks=3,
        shots=(3, 2),
        features=3,
        temperature=1.7,
        seed=31,
    )
    yield make(
        "one-reading",
        "one processing step, classes of equal size in order: catches a readout from nowhere",
        shots=(2, 2, 2, 2),
        balanced=True,
        queries=4,
        temperature=0.7,
        processing_steps=1,
        seed=32,
    )
    yield make(
        "tidy",
        "four tasks, classes of equal size in order",
        tasks=4,
        shots=(3, 3),
        balanced=True,
        queries=2,
        features=3,
        temperature=1.3,
        seed=38,
    )
    yield make("one-shot", "one example a class", kind="edge", shots=(1, 1), seed=33)
    yield make("one-example", "one example: the context is itself", kind="edge", shots=(1,), seed=34)
    yield make("one-feature", "cosines of numbers are signs", kind="edge", features=1, shots=(2, 1), seed=35)
    case = make("zero-queries", "queries of zero, which get a context", kind="edge", shots=(2, 1), seed=36)
    yield with_inputs(case, query_x=np.zeros_like(case.inputs["query_x"]))
    yield doubled(
        make("doubled-example", "twice the same example, in two contexts", kind="edge", shots=(2, 2), seed=37)
    )
    yield from refused(make)
    yield bad_setting(make, "no-reading", "no processing step", processing_steps=0)
    case = make("missing-bias", "a parameter of an LSTM that is missing", kind="must-raise")
    params = {name: p for name, p in case.inputs["params"].items() if name != "backward.bias_hh"}
    yield with_inputs(case, params=params)


def random_full_context(draw: Draw) -> Case:
    """A case of matching networks with full context embeddings."""
    from hypothesis import strategies as st

    features = draw(st.integers(1, 3))
    return drawn(
        draw,
        features=features,
        params=context_params(features, draw(st.integers(0, 100))),
        temperature=draw(st.sampled_from([1.0, 0.4, 1.7])),
        processing_steps=draw(st.integers(1, 3)),
    )
