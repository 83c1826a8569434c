"""Task sources: anything that samples episodes."""

from __future__ import annotations

from typing import Annotated, NamedTuple, Protocol

import numpy as np

from mltk.backend import check_backend
from mltk.checks import check_count, has
from mltk.contracts import Backend, Learner
from mltk.episode import Episode
from mltk.errors import SettingError
from mltk.tree import Tree


class TaskSource(Protocol):
    """What training and evaluation need of data.

    A class whose sampling takes long beside a training step may say ``prefetch = True``: then `mltk.train`
    samples in a thread of its own, ahead of the training.

    A run records what a source of the user's own holds (`mltk.training.fingerprint`), and is not continued
    with another; a source whose attributes change as it samples says by a method ``fingerprint()`` what
    counts.
    """

    def sample(self, n_tasks: int, rng: int | np.random.Generator, backend: Backend) -> Episode:
        """Draw ``n_tasks`` tasks at once; the same seed gives the same tasks on every backend.

        Args:
            n_tasks: How many.
            rng: A seed or a generator.
            backend: Where the arrays go.

        Raises:
            SettingError: If an argument is not of its kind.
        """


Tasks = Annotated[TaskSource, has("sample", "mltk.data.Sinusoid(...)")]
"""A source, checked for what makes it one."""


class ClassSource(TaskSource, Protocol):
    """A source of classification tasks that also draws tasks of given classes.

    Attributes:
        ways: Classes a task.
        class_names: What the ``classes`` of an episode, and those that are given, mean.
    """

    ways: int
    class_names: tuple[str, ...]

    def allowed(self, n_tasks: int, rng: np.random.Generator) -> np.ndarray:
        """The classes that each of some tasks may choose from, bool ``(n_tasks, classes)``."""

    def of_classes(self, classes: np.ndarray, rng: np.random.Generator, backend: Backend) -> Episode:
        """Draw a task of each row of ``classes``, ``(n_tasks, ways)``, labelled in this order."""


class Proposal(NamedTuple):
    """What a source proposes to train on next.

    Attributes:
        episode: The tasks, with weights if they should not count alike.
        state: What the source knows from now on, as that of `Proposer.start`.
        figures: What is logged of a step beside its loss.
    """

    episode: Episode
    state: dict[str, np.ndarray]
    figures: dict[str, float]


class Proposer(TaskSource, Protocol):
    """A source that sees the learner when it draws: `mltk.train` asks for its proposals, not for samples.

    What it has learned of the tasks is in no attribute but in a state, finite NumPy arrays by name, which is
    part of a checkpoint: a run that goes on draws what it would have drawn.
    """

    def start(self) -> dict[str, np.ndarray]:
        """The state before the first step; later ones have the same names, shapes and dtypes."""

    def propose(
        self,
        n_tasks: int,
        rng: np.random.Generator,
        backend: Backend,
        *,
        learner: Learner,
        meta_params: Tree,
        state: dict[str, np.ndarray],
    ) -> Proposal:
        """Draw the tasks of the next step.

        Args:
            n_tasks: How many.
            rng: Draws them.
            backend: Where the arrays go.
            learner: What is trained.
            meta_params: What it has learned so far.
            state: That of the proposal before.

        Raises:
            NotFiniteError: If the tasks hold NaN or infinity.
            DivergedError: If the predictions of the learner do.
        """


def chosen_from(tasks: TaskSource) -> TaskSource:
    """The source that a curriculum chooses its tasks from, or that one which retries draws them from.

    Any other source is its own.
    """
    while hasattr(tasks, "propose") or getattr(tasks, "passes_on", False):
        inner: TaskSource = getattr(tasks, "tasks", tasks)
        if inner is tasks:
            break
        tasks = inner
    return tasks


def generator(rng: int | np.random.Generator, n_tasks: int) -> np.random.Generator:
    """The generator that ``n_tasks`` tasks are drawn with: a new one for a seed.

    Raises:
        SettingError: If ``n_tasks`` is not a positive integer, or ``rng`` neither a seed nor a generator.
    """
    check_count("n_tasks", n_tasks)
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise SettingError(
            f"rng is {rng!r}; expected a seed (an integer of at least 0) or a numpy.random.Generator"
        ) from None


def regression_episode(
    x: np.ndarray, y: np.ndarray, shots: int, backend: Backend, *, noise: float, rng: np.random.Generator
) -> Episode:
    """An episode whose first ``shots`` examples of each task are its support set.

    Args:
        x: Inputs ``(T, N, *features)``.
        y: Targets ``(T, N, d)``, without noise.
        shots: Support examples a task.
        backend: Where the arrays go.
        noise: Standard deviation of what is added to the targets.
        rng: Draws it; not asked if there is none.
    """
    check_backend(backend)
    if noise:
        y = y + rng.normal(0, noise, y.shape)
    x, y = backend.asarray(x), backend.asarray(y)
    return Episode(x[:, :shots], y[:, :shots], x[:, shots:], y[:, shots:], backend=backend)
