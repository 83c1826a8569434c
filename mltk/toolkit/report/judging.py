"""Runs on unseen tasks: all that are of one kind of task on the same ones, and what they got wrong there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mltk.contracts import Backend
from mltk.data.source import TaskSource
from mltk.episode import Episode
from mltk.evaluation.entry import Entry
from mltk.evaluation.evaluator import MetaLearningEvaluator
from mltk.evaluation.returns import returns
from mltk.evaluation.table import LearnerOutcome, Table
from mltk.outside import in_words
from mltk.progress import StepReport
from mltk.task_analysis.confusion import Confusion, count_confused
from mltk.watching import StepSeen, TasksSeen

if TYPE_CHECKING:
    from mltk.algorithms import StochasticMAML

WORST = 3
"""Tasks of each learner that are shown."""

MOST_CLASSES = 2000
"""Of more classes it is not counted which are taken for which: the table has their square of entries."""


@dataclass(frozen=True)
class FailedTask:
    """A task on which a learner did badly.

    Attributes:
        task: Its number among the tasks of the evaluation, from 0.
        episode: The task alone.
        outputs: What was predicted for its queries, ``(M, ways)`` or as the targets of regression.
        value: The metric.
        hardness: See `mltk.hardness_metric`; NaN where it is not known.
    """

    task: int
    episode: Episode = field(repr=False)
    outputs: np.ndarray = field(repr=False)
    value: float
    hardness: float


@dataclass
class _Looking:
    """Watches an evaluation, tells how far it is, and keeps what the evaluation does not.

    Attributes:
        report: Told of it, with the loss on the last tasks.
        episodes: How many tasks there will be.
        confusion: Where it is counted which classes are taken for which; ``None`` not to.
        worst: The tasks that were worst so far, each behind what it is sorted by.
    """

    report: StepReport
    episodes: int
    confusion: Confusion | None
    worst: list[tuple[tuple[float, float], FailedTask]] = field(default_factory=list)

    def on_step(self, seen: StepSeen) -> None:
        """Nothing is trained."""

    def on_tasks(self, seen: TasksSeen) -> None:
        """See `mltk.watching.Watcher`."""
        # Nothing was left to other processes.
        episode, outputs = cast("Episode", seen.episode), cast("np.ndarray", seen.outputs)
        loss = seen.measures["loss"]
        self.report(seen.name, seen.first + seen.values.size, self.episodes, float(loss.mean()))
        right = seen.values if seen.metric == "accuracy" else -seen.values
        hardness = seen.measures.get("hardness", np.full(right.size, np.nan))
        for task in np.lexsort((-loss, right))[:WORST].tolist():
            alone, told = episode.take(slice(task, task + 1)), (seen.values[task], hardness[task])
            found = FailedTask(seen.first + task, alone, outputs[task], *map(float, told))
            self.worst.append(((right[task], -loss[task]), found))
        self.worst = sorted(self.worst, key=itemgetter(0))[:WORST]
        if self.confusion is not None and episode.classes is not None and episode.query_y.ndim == 2:
            labels = episode.backend.to_numpy(episode.query_y)
            count_confused(self.confusion, episode.classes, labels, outputs.argmax(axis=2))


@dataclass
class SameTasks:
    """Learners on the same unseen tasks, and what was found.

    Attributes:
        tasks: Where the tasks come from; ``None`` where that is not known any more.
        about: What they are.
        entries: The learners that are to be judged, and where each computes, by name.
        outcomes: What was found of those that could be.
        hardness: Of each task, if there is any.
        failures: The tasks that were worst for each learner.
        confusions: Which classes each took for which.
        problems: Why a learner could not be judged.
    """

    tasks: TaskSource | None
    about: str
    entries: dict[str, tuple[Entry, Backend]] = field(default_factory=dict)
    outcomes: dict[str, LearnerOutcome] = field(default_factory=dict)
    hardness: np.ndarray | None = None
    failures: dict[str, list[FailedTask]] = field(default_factory=dict)
    confusions: dict[str, Confusion] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def judge(self, name: str, *, episodes: int, seed: int, report: StepReport) -> None:
        """Judge one of the learners; that it fails is noted, and stops nothing."""
        entry, backend = self.entries[name]
        assert self.tasks is not None
        try:
            if hasattr(entry.learner, "returns"):
                self.outcomes[name] = _of_policy(entry, self.tasks, episodes, seed, backend)
                return
            # One by one, each on its own backend: the tasks are the same, and none spoils the others.
            evaluator = MetaLearningEvaluator({name: entry}, self.tasks, seed=seed, backend=backend)
            names = tuple(getattr(self.tasks, "class_names", ()))
            confusion = None
            if 0 < len(names) <= MOST_CLASSES:
                counts, met = np.zeros((2, len(names), len(names)), np.int64)
                confusion = Confusion(counts, met, names)
            look = _Looking(report, episodes, confusion)
            found = evaluator.run(episodes, progress=False, watch=look)
        except Exception as error:  # whatever a learner does: the others are shown all the same
            self.problems[name] = in_words(error)
            return
        self.outcomes |= found.outcomes
        self.hardness = found.hardness
        self.failures[name] = [failure for _, failure in look.worst]
        if confusion is not None and confusion.counts.any():
            self.confusions[name] = confusion

    def table(self, seed: int) -> Table | None:
        """What was found, to be compared; ``None`` if no learner could be judged."""
        return Table(dict(self.outcomes), seed, self.hardness) if self.outcomes else None


def _of_policy(entry: Entry, tasks: Any, episodes: int, seed: int, backend: Backend) -> LearnerOutcome:
    """The returns of a policy that has adapted, as what is found of other learners."""
    start, learner = time.perf_counter(), cast("StochasticMAML", entry.learner)
    after = returns(learner, entry.meta_params, tasks, episodes=episodes, seed=seed, backend=backend).after
    return LearnerOutcome(after, -after.values, None, None, (time.perf_counter() - start) / episodes)


def grouped(found: Sequence[tuple[Entry, Backend, TaskSource, str]]) -> list[SameTasks]:
    """Learners with what they are to be judged on, those on the same tasks together."""
    groups: list[SameTasks] = []
    for entry, backend, tasks, about in found:
        add(SameTasks(tasks, about, {entry.name: (entry, backend)}), groups)
    return groups


def add(one: SameTasks, groups: list[SameTasks]) -> None:
    """Join a group with that of the same tasks, or add it; what was known of its learners is replaced."""
    for group in groups:
        if _same(group.tasks, one.tasks):
            for name in ("entries", "outcomes", "failures", "confusions", "problems"):
                getattr(group, name).update(getattr(one, name))
            group.hardness = one.hardness if group.hardness is None else group.hardness
            return
    groups.append(one)


def _same(one: Any, other: Any) -> bool:
    """Whether two task sources are equal; arrays inside them may refuse to say."""
    if one is other:
        return True
    with suppress(Exception):
        return type(one) is type(other) and bool(one == other)
    return False
