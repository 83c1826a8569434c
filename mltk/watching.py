"""Watching work go by: what `mltk.train`, `mltk.evaluate` and comparisons tell whoever watches them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mltk.checks import check_has
from mltk.contracts import Learner
from mltk.data.source import TaskSource
from mltk.episode import Episode
from mltk.tree import Tree


@dataclass(frozen=True)
class StepSeen:
    """One step of a training, after it was taken.

    Attributes:
        step: Its number, from 1.
        steps: How many there will be.
        loss: The meta-loss, a number or a 0-d array on the device: nothing was fetched for the watcher.
        grads: The meta-gradient.
        meta_params: What the step began with.
        episode: What was trained on, an `mltk.Episode` but for policies.
        learner: The learner.
        tasks: Where the tasks come from.
        seed: Of the training.
        folder: The run folder, if there is one.
        figures: What the source says of the step: see `mltk.data.source.Proposal`.
    """

    step: int
    steps: int
    loss: Any
    grads: Tree = field(repr=False)
    meta_params: Tree = field(repr=False)
    episode: Episode = field(repr=False)
    learner: Learner = field(repr=False)
    tasks: TaskSource = field(repr=False)
    seed: int
    folder: Path | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TasksSeen:
    """Some tasks that a learner was judged on.

    Attributes:
        name: What the learner is called.
        learner: The learner.
        tasks: Where the tasks come from.
        seed: Of these tasks, as given to `mltk.evaluate`.
        over: What draws them: ``"tasks"``, or for A/B tests over classes ``"classes"``.
        first: The number of the first of them, from 0.
        metric: ``"accuracy"`` or ``"mse"``.
        values: The metric of each task, ``(T,)`` float64.
        measures: What else was found of each task, by name, ``(T,)`` each, such as ``"loss"``.
        seconds: A task, to adapt and predict; ``None`` where nobody has taken the time.
        classes: The classes of each task, ``(T, ways)``, or ``None``.
        groups: Likewise.
        episode: The tasks, where whoever tells of them has them, and has not left them to other processes.
        outputs: What was predicted for their queries, ``(T, M, …)`` float64, likewise.
    """

    name: str
    learner: Learner = field(repr=False)
    tasks: TaskSource = field(repr=False)
    seed: int
    over: str
    first: int
    metric: str
    values: np.ndarray = field(repr=False)
    measures: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    seconds: float | None = None
    classes: np.ndarray | None = field(default=None, repr=False)
    groups: np.ndarray | None = field(default=None, repr=False)
    episode: Episode | None = field(default=None, repr=False)
    outputs: np.ndarray | None = field(default=None, repr=False)


class Watcher(Protocol):
    """Is told what happens, and changes nothing of it; what it raises ends the work."""

    def on_step(self, seen: StepSeen) -> None:
        """A step of a training was taken."""

    def on_tasks(self, seen: TasksSeen) -> None:
        """A learner was judged on some tasks, which come in order."""


Watch = Watcher | Sequence[Watcher]
"""One watcher, or several that are told in turn; none by default."""


def watchers(watch: Watch) -> tuple[Watcher, ...]:
    """All that watch.

    Raises:
        SettingError: If one of them is no watcher.
    """
    found = tuple(watch) if isinstance(watch, list | tuple) else (watch,)
    for each in found:
        for method in ("on_step", "on_tasks"):
            check_has("watch", each, method, "mltk.toolkit.Monitor()")
    return found
