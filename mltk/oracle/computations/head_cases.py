"""The cases of metric heads: embeddings, labels and settings in numbers that are short to read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mltk.oracle.case import Case, Kind
from mltk.oracle.computation import Draw
from mltk.oracle.computations.conventions import NO_DIRECTION
from mltk.oracle.computations.episodes import decimals

Arrays = Mapping[str, Any]
Make = Callable[..., Case]
"""`head_case` with a head's own settings."""

PROTOTYPICAL = {"distance": "sqeuclidean", "temperature": 1.0}
MATCHING = {"temperature": 1.0}


def head_case(
    name: str,
    comment: str,
    *,
    kind: Kind = "valid",
    tie: bool = False,
    convention: str | None = None,
    condition: float = 1.0,
    tasks: int = 2,
    shots: int | Sequence[int] = (2, 1, 3),
    queries: int = 4,
    features: int = 3,
    outputs: int = 2,
    seed: int = 0,
    params: Arrays | None = None,
    inputs: Arrays | None = None,
    **settings: Any,
) -> Case:
    """A case of a head.

    Args:
        name: See `Case`.
        comment: See `Case`.
        kind: See `Case`.
        tie: See `Case`.
        convention: See `Case`.
        condition: See `Case`.
        tasks: How many.
        shots: The support examples of each class, in the first task; in the next the classes take turns. For
            regression the number of all of them.
        queries: Query examples of a task; they have all classes, as far as there are enough.
        features: The length of an embedding.
        outputs: Of regression.
        seed: Of all numbers.
        params: The learned numbers of the head.
        inputs: What stands in place of other arrays.
        settings: Of the head.
    """
    rng = np.random.default_rng(seed)
    numbers = decimals(rng)
    support = shots if isinstance(shots, int) else sum(shots)
    arrays: dict[str, Any] = {"params": dict(params)} if params else {}
    arrays["support_x"] = numbers(tasks, support, features)
    if isinstance(shots, int):
        ways = None
        arrays["support_y"] = numbers(tasks, support, outputs)
        arrays["query_x"] = numbers(tasks, queries, features)
        arrays["query_y"] = numbers(tasks, queries, outputs)
    else:
        ways = len(shots)
        classes = np.concatenate([np.arange(ways), rng.integers(0, ways, max(queries - ways, 0))])[:queries]
        arrays["support_y"] = np.stack(
            [rng.permutation(np.repeat(np.arange(ways), np.roll(shots, task))) for task in range(tasks)]
        )
        arrays["query_x"] = numbers(tasks, queries, features)
        arrays["query_y"] = np.stack([rng.permutation(classes) for _ in range(tasks)])
    return Case(
        name,
        kind,
        comment,
        {"ways": ways, **settings},
        {**arrays, **(inputs or {})},
        condition=condition,
        tie=tie,
        convention=convention,
    )


def with_inputs(case: Case, **inputs: Any) -> Case:
    """A case with other arrays."""
    return dataclasses.replace(case, inputs={**case.inputs, **inputs})


def doubled(case: Case) -> Case:
    """The second support example of each task is the first one again, with its label."""
    x, y = case.inputs["support_x"].copy(), case.inputs["support_y"].copy()
    x[:, 1], y[:, 1] = x[:, 0], y[:, 0]
    return with_inputs(case, support_x=x, support_y=y)


def refused(make: Make, **changes: Any) -> Iterator[Case]:
    """What every head must refuse."""
    case = make("", "", kind="must-raise", **changes)

    def bad(name: str, comment: str, **inputs: np.ndarray) -> Case:
        return dataclasses.replace(with_inputs(case, **inputs), name=name, comment=comment)

    support, query, labels = (case.inputs[name] for name in ("support_x", "query_x", "support_y"))
    for name, array in (("support_x", support), ("query_x", query)):
        spoilt = array.copy()
        spoilt[1, 0, 1] = np.nan
        part = name.partition("_")[0]
        yield bad(f"nan-in-{part}", f"NaN among the {part} embeddings", **{name: spoilt})
    infinite = support.copy()
    infinite[0, 1, 0] = np.inf
    yield bad("infinite", "an infinite embedding", support_x=infinite)
    ways = case.settings["ways"]
    yield bad("label-too-large", "a label of no class", support_y=np.where(labels == 0, ways, labels))
    yield bad("negative-label", "a negative label", query_y=case.inputs["query_y"] - 1)
    yield bad("empty-class", "a class without support examples", support_y=np.where(labels == 1, 0, labels))
    yield bad("fewer-labels", "fewer labels than embeddings", support_y=labels[:, :-1])
    yield bad("other-features", "queries of another length than support examples", query_x=query[..., :-1])
    yield bad("no-task-axis", "embeddings without a task axis", support_x=support[0])
    yield bad("no-query", "no query example", query_x=query[:, :0], query_y=case.inputs["query_y"][:, :0])


def bad_setting(make: Make, name: str, comment: str, **settings: Any) -> Case:
    """A case that must be refused for its settings."""
    return make(name, comment, kind="must-raise", **settings)


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
        "a temperature below one",
        shots=(1, 2, 1, 3),
        tasks=3,
        queries=5,
        features=2,
        temperature=0.8,
        seed=2,
    )
    yield make(
        "cosine", "cosines: catches vectors that are not normalised", queries=5, features=4, seed=3, **cosine
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
        "cosines of short vectors over a temperature above one",
        shots=(1, 2, 1, 3),
        tasks=3,
        queries=5,
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
        "more classes than features",
        tasks=3,
        shots=(1, 2, 1, 3),
        queries=6,
        features=2,
        temperature=0.7,
        seed=22,
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


def drawn(draw: Draw, **settings: Any) -> Case:
    """A case whose extents hypothesis draws."""
    from hypothesis import strategies as st

    features = settings.pop("features", None)
    return head_case(
        "random",
        "drawn at random",
        tasks=draw(st.integers(1, 3)),
        shots=draw(st.lists(st.integers(1, 3), min_size=1, max_size=4)),
        queries=draw(st.integers(1, 5)),
        features=draw(st.integers(1, 6)) if features is None else features,
        seed=draw(st.integers(0, 1000)),
        **settings,
    )


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
