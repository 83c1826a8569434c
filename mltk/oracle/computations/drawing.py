"""What random cases are made of: numbers that are short to read, and the sets of an episode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mltk.oracle.case import Case, Values

Numbers = Callable[..., np.ndarray]
"""From a shape to numbers of it."""


def decimals(rng: np.random.Generator) -> Numbers:
    """Numbers of one decimal, from -2 to 2."""
    return lambda *shape: rng.integers(-20, 21, shape) / 10


def drawn(settings: Mapping[str, Any], inputs: Values) -> Case:
    """A case that was drawn at random."""
    return Case("random", "valid", "drawn at random", settings, inputs)


def sets(
    rng: np.random.Generator,
    *,
    features: int,
    outputs: int,
    tasks: int,
    shots: int | Sequence[int],
    queries: int,
    balanced: bool = False,
) -> tuple[Values, int | None]:
    """Support and query sets, and the number of classes; ``None`` for regression.

    Args:
        rng: Of all numbers.
        features: The length of an example.
        outputs: The length of a target of regression.
        tasks: How many.
        shots: For regression the support examples of a task, for classification those of each class, in the
            first task; in the next tasks the classes take turns.
        queries: Query examples of a task; they have all classes, as far as there are enough.
        balanced: Whether both sets hold the same number of examples of each class, and class after class.
    """
    numbers = decimals(rng)
    support = shots if isinstance(shots, int) else sum(shots)
    arrays: Values = {"support_x": numbers(tasks, support, features)}
    if isinstance(shots, int):
        arrays["support_y"] = numbers(tasks, support, outputs)
        arrays["query_x"] = numbers(tasks, queries, features)
        arrays["query_y"] = numbers(tasks, queries, outputs)
        return arrays, None
    ways = len(shots)
    arrays["support_y"] = np.stack(
        [rng.permutation(np.repeat(np.arange(ways), np.roll(shots, task))) for task in range(tasks)]
    )
    arrays["query_x"] = numbers(tasks, queries, features)
    every = np.arange(min(ways, queries))
    more = rng.integers(0, ways, (tasks, queries - len(every)))
    arrays["query_y"] = np.stack([rng.permutation(np.concatenate([every, row])) for row in more])
    if balanced:
        for key, count in (("support_y", support), ("query_y", queries)):
            arrays[key] = np.tile(np.repeat(np.arange(ways), count // ways), (tasks, 1))
    return arrays, ways
