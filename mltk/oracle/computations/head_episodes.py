"""Cases of heads: embeddings, labels and settings in numbers that are short to read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mltk.oracle.case import Case, Kind
from mltk.oracle.computation import Draw
from mltk.oracle.computations.episodes import decimals

Arrays = Mapping[str, Any]
Make = Callable[..., Case]
"""`head_case` with a head's own settings."""


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
    balanced: bool = False,
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
        balanced: Whether both sets hold the same number of examples of each class, and class after class.
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
        if balanced:
            assert len({*shots}) == 1
            assert queries % ways == 0
            for key, count in (("support_y", support), ("query_y", queries)):
                arrays[key] = np.tile(np.repeat(np.arange(ways), count // ways), (tasks, 1))
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


MANY: dict[str, Any] = {"tasks": 4, "shots": (5,) * 5, "queries": 10, "features": 4, "balanced": True}
"""Four tasks of five classes with five examples each."""

MANY_COMMENT = "four tasks, five ways, five shots, in order: catches sums, and axes that are exchanged"


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


def drawn(draw: Draw, **settings: Any) -> Case:
    """A case whose extents hypothesis draws."""
    from hypothesis import strategies as st

    features = settings.pop("features", None)
    if draw(st.booleans()):
        ways = draw(st.integers(1, 4))
        shots, queries = [draw(st.integers(1, 3))] * ways, ways * draw(st.integers(1, 2))
        settings["balanced"] = True
    else:
        shots = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
        queries = draw(st.integers(1, 5))
    return head_case(
        "random",
        "drawn at random",
        tasks=draw(st.integers(1, 3)),
        shots=shots,
        queries=queries,
        features=draw(st.integers(1, 6)) if features is None else features,
        seed=draw(st.integers(0, 1000)),
        **settings,
    )
