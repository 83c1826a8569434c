"""Cases of learners: a network, its parameters and an episode, in numbers that are short to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mltk.models import Sequential
from mltk.oracle.case import Case, Kind
from mltk.oracle.layers import describe_model

Numbers = Callable[..., np.ndarray]
"""From a shape to numbers of it."""


def decimals(rng: np.random.Generator) -> Numbers:
    """Numbers of one decimal, from -2 to 2."""
    return lambda *shape: rng.integers(-20, 21, shape) / 10


def episode(
    name: str,
    comment: str,
    network: Sequential,
    *,
    features: tuple[int, ...],
    kind: Kind = "valid",
    tie: bool = False,
    convention: str | None = None,
    tasks: int = 2,
    shots: int | Sequence[int] = 3,
    queries: int = 2,
    balanced: bool = False,
    seed: int = 0,
    weights: float = 1.0,
    params: Mapping[str, np.ndarray] | None = None,
    inputs: Mapping[str, np.ndarray] | None = None,
    **settings: Any,
) -> Case:
    """A case of a gradient-based learner.

    Args:
        name: See `Case`.
        comment: See `Case`.
        network: The model; its last layer that has parameters gives the outputs.
        features: The shape of an example.
        kind: See `Case`.
        tie: See `Case`.
        convention: See `Case`.
        tasks: How many.
        shots: For regression the support examples of a task, for classification those of each class, in the
            first task; in the next tasks the classes take turns.
        queries: Query examples of a task.
        balanced: Whether both sets hold the same number of examples of each class, and class after class.
        seed: Of all numbers.
        weights: The largest absolute value of the initial parameters, but for those of norms.
        params: What stands in place of parameters, or beside them.
        inputs: What stands in place of other arrays.
        settings: Of the learner.
    """
    rng = np.random.default_rng(seed)
    numbers = decimals(rng)
    outputs = network.out_features
    assert outputs is not None
    drawn = {
        key: rng.integers(5, 20, shape) / 10
        if key.endswith("weight") and len(shape) == 1
        else numbers(*shape) * (weights / 2)
        for key, shape in network.shapes.items()
    }
    arrays: dict[str, Any] = {"params": {**drawn, **(params or {})}}
    defaults: dict[str, Any]
    if isinstance(shots, int):
        support = shots
        arrays["support_x"] = numbers(tasks, support, *features)
        arrays["support_y"] = numbers(tasks, support, outputs)
        arrays["query_x"] = numbers(tasks, queries, *features)
        arrays["query_y"] = numbers(tasks, queries, outputs)
        defaults = {"loss": "mse", "ways": None}
    else:
        support, ways = sum(shots), len(shots)
        assert not balanced or (len({*shots}) == 1 and queries % ways == 0)
        arrays["support_x"] = numbers(tasks, support, *features)
        arrays["support_y"] = np.stack(
            [rng.permutation(np.repeat(np.arange(ways), np.roll(shots, task))) for task in range(tasks)]
        )
        arrays["query_x"] = numbers(tasks, queries, *features)
        every = np.arange(min(ways, queries))  # so that the sets can be exchanged
        more = rng.integers(0, ways, (tasks, queries - len(every)))
        arrays["query_y"] = np.stack([rng.permutation(np.concatenate([every, row])) for row in more])
        if balanced:
            for key, count in (("support_y", support), ("query_y", queries)):
                arrays[key] = np.tile(np.repeat(np.arange(ways), count // ways), (tasks, 1))
        defaults = {"loss": "cross_entropy", "ways": ways}
    return Case(
        name,
        kind,
        comment,
        {"layers": describe_model(network), **defaults, **settings},
        {**arrays, **(inputs or {})},
        tie=tie,
        convention=convention,
    )
