"""What all curricula have in common: the tasks they choose from, and how hard each is for the learner."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mltk.checks import Checked
from mltk.contracts import Backend, Learner
from mltk.data.source import Proposal, Tasks
from mltk.episode import Episode, joined
from mltk.errors import DivergedError, NotFiniteError, SettingError
from mltk.evaluation.unseen_tasks import predictions
from mltk.ops.named_losses import loss
from mltk.tree import Tree

OF_CLASSES = ("class_names", "class_digests", "names_identify", "group_names", "distinct_classes")
"""What a source may say of its classes, which is the same for those who wrap it."""


State = dict[str, np.ndarray]


class Step(NamedTuple):
    """A step of a training that tasks are proposed for: see `mltk.data.source.Proposer.propose`."""

    n_tasks: int
    rng: np.random.Generator
    backend: Backend
    learner: Learner
    meta_params: Tree


@dataclass(frozen=True)
class OfTasks(Checked):
    """A source that wraps another one; `sample` gives the tasks of that one as they are.

    Attributes:
        tasks: The source.

    Raises:
        SettingError: If that is no task source, or a curriculum itself.
    """

    tasks: Tasks

    def __post_init__(self) -> None:
        super().__post_init__()
        if hasattr(self.tasks, "propose"):
            raise SettingError(f"tasks is {self.tasks!r}; expected a source that is no curriculum itself")

    def __getattr__(self, name: str) -> Any:
        """What the tasks say of their classes."""
        if name in OF_CLASSES:
            return getattr(self.tasks, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def sample(self, n_tasks: int, rng: int | np.random.Generator, backend: Backend) -> Episode:
        """Draw from the tasks as they are; see `mltk.data.source.TaskSource.sample`."""
        return self.tasks.sample(n_tasks, rng, backend)

    def start(self) -> State:
        """See `mltk.data.source.Proposer`."""
        return {}

    def propose(
        self,
        n_tasks: int,
        rng: np.random.Generator,
        backend: Backend,
        *,
        learner: Learner,
        meta_params: Tree,
        state: State,
    ) -> Proposal:
        """See `mltk.data.source.Proposer`."""
        return self.proposed(Step(n_tasks, rng, backend, learner, meta_params), state)

    @abstractmethod
    def proposed(self, step: Step, state: State) -> Proposal:
        """What is proposed for a step."""

    def candidates_of(self, step: Step, times: int = 1) -> tuple[Episode, np.ndarray]:
        """So many times as many tasks as are asked for, and the difficulty of each.

        Raises:
            SettingError: If the source draws something else.
        """
        n_tasks = times * step.n_tasks
        episode = self.tasks.sample(n_tasks, step.rng, step.backend)
        found = len(episode.support_x) if isinstance(episode, Episode) else type(episode).__name__
        if found != n_tasks:
            raise SettingError(
                f"tasks.sample({n_tasks}, …) gave {found}; expected an Episode of {n_tasks} tasks"
            )
        return episode, difficulty(step.learner, step.meta_params, episode)


@dataclass(frozen=True)
class Drawn:
    """The source of one draw."""

    episode: Episode

    def sample(self, n_tasks: int, rng: int | np.random.Generator, backend: Backend) -> Episode:
        """All that was drawn."""
        return self.episode


def outputs_of(learner: Learner, meta_params: Tree, episode: Episode) -> np.ndarray:
    """The predictions for the queries of a learner that has adapted to each task, on the host.

    Batch norms that take population statistics, which there are none of before the end of a training, take
    those of all tasks here.

    Raises:
        NotFiniteError: If the tasks hold NaN or infinity.
        DivergedError: If the predictions for one of them do.
    """
    episode.check_values(fetch_targets=True)
    names = (f"task {task}" for task in range(len(episode.support_x)))
    try:
        if hasattr(learner, "calibrate"):
            meta_params = learner.calibrate(meta_params, Drawn(episode), episodes=1)
        return predictions(learner, meta_params, episode, names)
    except NotFiniteError as error:
        raise DivergedError(f"training diverged: {error}") from error


def difficulty(learner: Learner, meta_params: Tree, episode: Episode) -> np.ndarray:
    """The loss on its queries of each task that a learner has adapted to, float64 ``(T,)``.

    That is the cross-entropy for classification and the squared error for regression, whatever loss the
    learner trains with. It costs as much as evaluating the tasks.

    Args:
        learner: A meta-learner.
        meta_params: Its meta-parameters.
        episode: The tasks.

    Raises:
        NotFiniteError: If the tasks hold NaN or infinity.
        DivergedError: If the predictions for one of them do.
    """
    outputs = outputs_of(learner, meta_params, episode)
    targets = episode.backend.to_numpy(episode.query_y)
    kind = "cross_entropy" if episode.ways is not None else "mse"
    if kind == "mse":
        targets = targets.astype(np.float64)
    return np.asarray(loss(kind).value(outputs, targets)[0])


def chosen(episode: Episode, tasks: Iterable[int]) -> Episode:
    """Some of the tasks, in this order."""
    return joined([episode.take(slice(task, task + 1)) for task in tasks])
