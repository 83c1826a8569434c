"""The cases of metric heads: prototypical and matching networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mltk.oracle.case import Case
from mltk.oracle.computation import Draw
from mltk.oracle.computations.conventions import NO_DIRECTION
from mltk.oracle.computations.head_episodes import (
    MANY,
    MANY_COMMENT,
    Arrays,
    Make,
    bad_setting,
    doubled,
    drawn,
    head_case,
    refused,
    with_inputs,
)

PROTOTYPICAL = {"distance": "sqeuclidean", "temperature": 1.0}
MATCHING = {"temperature": 1.0}


def prototypical_cases() -> Iterator[Case]:
    """The cases of prototypical networks."""

    def make(name: str, comment: str, **changes: Any) -> Case:
        return head_case(name, comment, **{**PROTOTYPICAL, **changes})

    cosine = {"distance": "cosine", "temperature": 0.4}
    learned = {"temperature": "learned"}
    yield make(
        "squared",
        "unequal class counts: catches prototypes that are sums, and distances that are not squared",
        temperature=2.5,
        queries=5,
        features=4,
    )
    yield make(
        "squared-plain",
        "no temperature, for implementations that have none",
        tasks=3,
        shots=(2, 1, 3),
        queries=4,
        features=5,
        seed=17,
    )
    yield make("five-way-five-shot", MANY_COMMENT, seed=18, **MANY)
    yield make(
        "squared-learned",
        "a learned temperature: catches one that is multiplied, or whose gradient misses",
        tasks=3,
        shots=(3, 2),
        features=6,
        seed=1,
        params={"log_temperature": np.asarray(1.6)},
        **learned,
    )
    yield make(
        "squared-cold",
        "a temperature below one, classes of equal size in order",
        shots=(2, 2, 2, 2),
        balanced=True,
        tasks=3,
        queries=4,
        features=2,
        temperature=0.8,
        seed=2,
    )
    yield make(
        "cosine", "cosines: catches vectors that are not normalised", queries=5, features=4, seed=3, **cosine
    )
    yield make(
        "cosine-plain",
        "cosines without a temperature, classes of equal size in order",
        shots=(3, 3),
        balanced=True,
        queries=4,
        features=5,
        seed=19,
        **{**cosine, "temperature": 1.0},
    )
    yield make(
        "cosine-learned",
        "cosines over a learned temperature",
        tasks=3,
        shots=(3, 2),
        features=6,
        seed=4,
        params={"log_temperature": np.asarray(-0.7)},
        **{**cosine, **learned},
    )
    yield make(
        "cosine-warm",
        "cosines of short vectors over a temperature above one, classes of equal size in order",
        shots=(2, 2, 2, 2),
        balanced=True,
        tasks=3,
        queries=4,
        features=2,
        seed=5,
        **{**cosine, "temperature": 1.5},
    )
    for kind, settings in (("squared", {}), ("cosine", cosine)):
        yield from _metric_edges(make, kind, settings)
    x = np.array([[[1.5, -0.5], [-1.5, 0.5], [0.25, 1.0]]])
    yield make(
        "prototype-of-zero",
        "opposite examples, whose mean has no direction: its cosines and their gradients are zero",
        kind="edge",
        tie=True,
        convention=NO_DIRECTION,
        tasks=1,
        shots=(2, 1),
        features=2,
        inputs={"support_x": x, "support_y": np.array([[0, 0, 1]])},
        **cosine,
    )
    case = make("far-away", "embeddings far from the origin: catches cancellation", kind="edge", seed=6)
    yield with_inputs(case, **{name: case.inputs[name] + 100 for name in ("support_x", "query_x")})
    case = make("huge-distances", "a softmax that overflows unless it is shifted", kind="edge", seed=7)
    yield with_inputs(case, **{name: 20 * case.inputs[name] for name in ("support_x", "query_x")})
    yield from refused(make)
    yield bad_setting(make, "unknown-distance", "a distance that does not exist", distance="manhattan")
    for number in (0.0, -1.0):
        label = "zero" if not number else "negative"
        yield bad_setting(make, f"{label}-temperature", f"a {label} temperature", temperature=number)
    yield bad_setting(make, "temperature-missing", "a learned temperature that is missing", **learned)


def _metric_edges(make: Make, kind: str, settings: Arrays) -> Iterator[Case]:
    """Where implementations of metric heads differ."""

    def edge(name: str, comment: str, **changes: Any) -> Case:
        return make(f"{kind}-{name}", comment, kind="edge", **{**settings, **changes})

    yield edge("one-shot", "one example a class", shots=(1, 1, 1), seed=10)
    yield edge("one-way", "one class: the loss and its gradients are zero", shots=(3,), seed=11)
    yield edge("one-query", "one task with one query", tasks=1, queries=1, seed=12)
    yield doubled(edge("doubled-example", "an example that comes twice", shots=(2, 2), seed=13))
    case = edge("identical-examples", "classes that are alike: all logits are equal", shots=(1, 1), seed=14)
    yield with_inputs(case, support_x=np.repeat(case.inputs["support_x"][:, :1], 2, axis=1))
    case = edge("query-at-support", "a query that is an example: no distance", shots=(1, 1), seed=15)
    query = case.inputs["query_x"].copy()
    query[:, 0] = case.inputs["support_x"][:, 0]
    yield with_inputs(case, query_x=query)
    case = edge(
        "zero-embeddings",
        "embeddings of zero: no NaN, and as cosines zero with zero gradients",
        shots=(1, 1),
        tie=True,
        convention=NO_DIRECTION if kind == "cosine" else None,
        seed=16,
    )
    support, query = case.inputs["support_x"].copy(), case.inputs["query_x"].copy()
    support[:, 0], query[:, 1] = 0.0, 0.0
    yield with_inputs(case, support_x=support, query_x=query)


def matching_cases() -> Iterator[Case]:
    """The cases of matching networks."""

    def make(name: str, comment: str, **changes: Any) -> Case:
        return head_case(name, comment, **{**MATCHING, **changes})

    yield make(
        "cold",
        "unequal class counts: catches attention that is not added up by class",
        queries=5,
        features=4,
        temperature=0.4,
        seed=20,
    )
    yield make(
        "plain",
        "no temperature, for implementations that have none",
        tasks=3,
        shots=(2, 1, 3),
        features=5,
        temperature=1.0,
        seed=27,
    )
    yield make(
        "warm",
        "a temperature above one: catches one that is multiplied",
        tasks=3,
        shots=(3, 2),
        features=6,
        temperature=1.7,
        seed=21,
    )
    yield make(
        "flat",
        "more classes than features, of equal size and in order",
        tasks=3,
        shots=(2, 2, 2, 2),
        balanced=True,
        queries=4,
        features=2,
        temperature=0.7,
        seed=22,
    )
    yield make("five-way-five-shot", MANY_COMMENT, seed=28, **MANY)
    yield make(
        "cold-and-tidy",
        "a temperature below one, classes of equal size in order",
        shots=(3, 3),
        balanced=True,
        queries=4,
        features=5,
        temperature=0.6,
        seed=29,
    )
    yield from _metric_edges(make, "cosine", {})
    yield make(
        "coldest",
        "the lowest temperature: probabilities near zero",
        kind="edge",
        temperature=0.03,
        seed=23,
    )
    case = make("lengths", "vectors short and long, which cosines do not see", kind="edge", seed=24)
    yield with_inputs(case, support_x=case.inputs["support_x"] / 1000, query_x=case.inputs["query_x"] * 1000)
    yield from refused(make)
    yield bad_setting(make, "too-cold", "a temperature at which exponentials underflow", temperature=0.001)
    yield bad_setting(make, "negative-temperature", "a negative temperature", temperature=-1.0)


def with_directions(case: Case, *names: str) -> Case:
    """A drawn case without vectors of zero, whose cosines are a convention; else it is thrown away."""
    import hypothesis

    hypothesis.assume(all(case.inputs[name].any(-1).all() for name in names))
    return case


def random_prototypical(draw: Draw) -> Case:
    """A case of prototypical networks."""
    import hypothesis
    from hypothesis import strategies as st

    distance = draw(st.sampled_from(["sqeuclidean", "cosine"]))
    temperature = draw(st.sampled_from([1.0, 0.7, 2.5, "learned"]))
    params = {"log_temperature": np.asarray(0.6)} if temperature == "learned" else None
    case = drawn(draw, distance=distance, temperature=temperature, params=params)
    if distance == "sqeuclidean":
        return case
    hot = case.inputs["support_y"][..., None] == np.arange(case.settings["ways"])
    sums = np.round(hot.mT @ case.inputs["support_x"], 6)  # of decimals, which cancel but for rounding
    hypothesis.assume(sums.any(-1).all())
    return with_directions(case, "query_x")


def random_matching(draw: Draw) -> Case:
    """A case of matching networks."""
    from hypothesis import strategies as st

    case = drawn(draw, temperature=draw(st.sampled_from([1.0, 0.4, 1.7])))
    return with_directions(case, "support_x", "query_x")
