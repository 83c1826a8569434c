"""The unseen tasks of an evaluation: drawn in blocks, adapted to in batches, whatever the blocks are like."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import groupby
from typing import Protocol, TypeVar

import numpy as np

from mltk.contracts import Backend
from mltk.data.source import ClassSource
from mltk.episode import Episode, form, joined
from mltk.errors import SettingError, ShapeError

BLOCK = 20
"""Tasks that are drawn together, from a generator of their own."""

Drawn = TypeVar("Drawn", covariant=True)


class Source(Protocol[Drawn]):
    """Draws tasks of some kind."""

    def sample(self, n_tasks: int, rng: np.random.Generator, backend: Backend) -> Drawn:
        """Draw ``n_tasks`` tasks."""


def block_generator(seed: int, block: int) -> np.random.Generator:
    """The generator of a block of unseen tasks."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, block)))


def blocks(
    tasks: Source[Drawn], episodes: int, seed: int, backend: Backend, *, first: int = 0
) -> Iterator[Drawn]:
    """As many blocks as hold the episodes, each drawn by itself, from the first that is wanted."""
    for block in range(first, math.ceil(episodes / BLOCK)):
        yield tasks.sample(BLOCK, block_generator(seed, block), backend)


def disjoint_blocks(
    tasks: ClassSource, episodes: int, seed: int, backend: Backend, *, first: int = 0
) -> Iterator[Episode]:
    """Blocks of tasks no two of which share a class, until the episodes or the classes are used up.

    The seed decides the order in which the classes come. The last block may have fewer tasks.

    Args:
        tasks: Draws tasks of given classes.
        episodes: So many tasks are held by the blocks, if there are classes for them.
        seed: Of the order, and of what is drawn of the classes.
        backend: Where the arrays go.
        first: The first block that is wanted.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(3,)))
    order = rng.permutation(len(tasks.class_names))
    classes = order[: len(order) // tasks.ways * tasks.ways].reshape(-1, tasks.ways)
    for start in range(first * BLOCK, min(episodes, len(classes)), BLOCK):
        rng = block_generator(seed, start // BLOCK)
        yield tasks.of_classes(classes[start : start + BLOCK], rng, backend)


def wanted(drawn: Iterator[Episode], episodes: int) -> Iterator[Episode]:
    """The blocks, of which the last is cut to what is still wanted.

    Raises:
        ShapeError: If a block has another number of tasks than the source was asked for.
    """
    for number, block in enumerate(drawn):
        if not isinstance(block, Episode):
            raise SettingError(f"tasks.sample gave {type(block).__name__}; expected an mltk.Episode")
        tasks = block.support_x.shape[0]
        if tasks != BLOCK:
            raise ShapeError(f"tasks.sample({BLOCK}, …) gave {tasks} tasks; expected {BLOCK}")
        yield block.take(slice(0, episodes - number * BLOCK))


def stretches(episodes: int, batch: int) -> list[tuple[int, int]]:
    """The episodes in stretches ``(start, stop)`` of whole blocks, so that no batch is of two of them."""
    step = max(1, batch // BLOCK) * BLOCK
    return [(start, min(start + step, episodes)) for start in range(0, episodes, step)]


def batches(drawn: Iterator[Episode], batch: int) -> Iterator[Episode]:
    """Episodes of at most ``batch`` tasks, in order: blocks cut, or joined where ways and shapes agree."""
    together = max(1, batch // BLOCK)
    for _, chunk in groupby(enumerate(drawn), key=lambda item: (item[0] // together, form(item[1]))):
        whole = joined([block for _, block in chunk])
        for start in range(0, whole.support_x.shape[0], batch):
            yield whole.take(slice(start, start + batch))
