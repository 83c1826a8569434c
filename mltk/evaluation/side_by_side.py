"""Learners that meet the same tasks, block by block, for as long as somebody wants to know."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from mltk.contracts import Backend
from mltk.data.source import ClassSource, TaskSource
from mltk.errors import SettingError
from mltk.evaluation.blocks import BLOCK, blocks, disjoint_blocks, wanted
from mltk.evaluation.confidence_sequences import FIRST
from mltk.evaluation.entry import Entry
from mltk.evaluation.unseen_tasks import identities, metric, predictions
from mltk.watching import TasksSeen, Watcher


class Scored(NamedTuple):
    """How learners did on a block of tasks.

    Attributes:
        metric: ``"accuracy"`` or ``"mse"``.
        values: That of each learner on each task, ``(learners, T)``.
        seconds: Of each learner, a task.
        classes: Those of the tasks, ``(T, ways)``, or ``None``.
        groups: Likewise.
    """

    metric: str
    values: np.ndarray
    seconds: list[float]
    classes: np.ndarray | None
    groups: np.ndarray | None


def scores(
    entries: Sequence[Entry],
    tasks: TaskSource,
    *,
    start: int,
    stop: int,
    seed: int,
    backend: Backend,
    over: str = "tasks",
) -> Iterator[Scored]:
    """The metric of each learner on each task, block by block.

    Over tasks they are those of `mltk.evaluate` with the same seed. Blocks are judged whole, also where only
    some of their tasks are wanted: what a task gives may depend, in its last bits, on how many are judged at
    once.

    Args:
        entries: The learners.
        tasks: Where tasks come from.
        start: How many tasks are known already.
        stop: How many will be known.
        seed: Of the tasks.
        backend: Where to compute.
        over: ``"tasks"``, or ``"classes"`` for those of `mltk.evaluation.blocks.disjoint_blocks`.
    """
    first, end = start // BLOCK, math.ceil(stop / BLOCK)
    if over == "classes":
        drawn = disjoint_blocks(cast("ClassSource", tasks), stop, seed, backend, first=first)
    else:
        drawn = wanted(blocks(tasks, stop, seed, backend, first=first), (end - first) * BLOCK)
    for number, episode in enumerate(drawn, start=first):
        asked = slice(max(0, start - number * BLOCK), stop - number * BLOCK)
        episode.check_values(fetch_targets=True)
        name = "mse" if episode.ways is None else "accuracy"
        found, seconds = [], []
        for entry in entries:
            names = (f"task {number * BLOCK + task} by {entry.name}" for task in range(BLOCK))
            began = time.perf_counter()
            outputs = predictions(entry.learner, entry.meta_params, episode, names)
            seconds.append((time.perf_counter() - began) / outputs.shape[0])
            found.append(metric(episode, outputs))
        of = (each if each is None else each[asked] for each in (episode.classes, episode.groups))
        yield Scored(name, np.stack(found)[:, asked], seconds, *of)


def tell(
    watching: Sequence[Watcher],
    entries: Sequence[Entry],
    tasks: TaskSource,
    found: Scored,
    *,
    seed: int,
    first: int,
    over: str = "tasks",
) -> None:
    """Tell those who watch how learners did on a block of tasks, the first of which has this number."""
    of: Any = identities([found], tasks)
    for entry, values, seconds in zip(entries, found.values, found.seconds, strict=True):
        who = (entry.name, entry.learner, tasks, seed, over, first, found.metric, values)
        for watcher in watching:
            watcher.on_tasks(TasksSeen(*who, seconds=seconds, **of))


def advantages(name: str, of: np.ndarray, over: np.ndarray) -> np.ndarray:
    """How much better one learner is than another on each task, in a scale that bets can be made on.

    Of accuracies it is the difference. Squared errors have any scale: their difference is divided by their
    sum, which turns round, too, when the learners change places.
    """
    if name == "accuracy":
        return np.asarray(of - over)
    total = of + over
    return np.asarray(np.divide(over - of, total, out=np.zeros_like(total), where=total > 0))


def leads(name: str, total: np.ndarray, tasks: np.ndarray | int) -> np.ndarray:
    """Whether one learner, and the other, is ahead by the sum of their differences: bool ``(2, ...)``.

    By errors nobody is before 50 tasks: a few of them may turn the sum.
    """
    ahead = total if name == "accuracy" else np.where(np.asarray(tasks) < FIRST, 0.0, -total)
    return np.stack([ahead > 0, ahead < 0])


def check_same_metric(known: str | None, name: str) -> str:
    """Raise unless all tasks are of one kind."""
    if known not in (None, name):
        raise SettingError("tasks draws both classification and regression; expected one of them")
    return name


def evidence_for(wrong: float) -> float:
    """The logarithm of how large an e-process must be so that it is wrong with no more than a probability."""
    return math.log(1 / wrong)
