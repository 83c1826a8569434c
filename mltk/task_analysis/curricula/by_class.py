"""What curricula have in common that draw the classes of a task by how often they are mistaken."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np

from mltk.checks import NonNegative, Part, check_has
from mltk.data.source import ClassSource, Proposal
from mltk.errors import SettingError
from mltk.task_analysis.class_means import probabilities
from mltk.task_analysis.curricula.of_tasks import OfTasks, State, Step, outputs_of


class Errors(NamedTuple):
    """How often what was mistaken in some tasks.

    Attributes:
        places: The potentials that this is for, as an index with the axis of the tasks in front.
        wrong: Probability given to wrong classes, summed over queries, of the shape of the index.
        queries: How many these are, likewise.
    """

    places: tuple[np.ndarray, ...]
    wrong: np.ndarray
    queries: np.ndarray


@dataclass(frozen=True)
class ByClass(OfTasks):
    r"""Draws classes by log potentials $\ell$ that follow the errors of the learner.

    After each step, those that had part in it become $\tau \ell + \alpha \bar p$, where $\bar p$ is the
    probability that the learner gave to wrong classes, averaged over queries and tasks. Each step adapts to
    its tasks twice, once to see what is mistaken. What is trained on is biased on purpose.

    Attributes:
        tasks: The source of the tasks, a `mltk.data.source.ClassSource`.
        strength: $\alpha$, what an error counts for.
        memory: $\tau$, how much of a potential is left after the next error, from 0 to 1.

    Raises:
        SettingError: If a setting is not valid, or the source draws no tasks of given classes.
    """

    strength: NonNegative = 1.0
    memory: Part = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for method in ("of_classes", "allowed"):
            check_has("tasks", self.tasks, method, "mltk.data.Glyphs(...).tasks(...)")
        for name in ("ways", "class_names"):
            if not hasattr(self.tasks, name):
                raise SettingError(f"tasks is {self.tasks!r}; expected a source with {name}")

    @abstractmethod
    def draw(
        self, potentials: np.ndarray, allowed: np.ndarray, ways: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Different classes of those that are allowed ``(T, C)``, in random order, ``(T, ways)``."""

    @abstractmethod
    def errors(self, classes: np.ndarray, given: np.ndarray, queries: np.ndarray) -> Errors:
        """What was mistaken.

        Args:
            classes: The class of each label, ``(T, ways)``.
            given: The probability that queries of one label gave to another, summed, ``(T, ways, ways)``.
            queries: How many queries each label has, ``(T, ways)``.
        """

    def proposed(self, step: Step, state: State) -> Proposal:
        """See `OfTasks`; logged is the mean probability that was given to wrong classes."""
        source, potentials = cast(ClassSource, self.tasks), state["potentials"]
        classes = self.draw(potentials, source.allowed(step.n_tasks, step.rng), source.ways, step.rng)
        episode = source.of_classes(classes, step.rng, step.backend)
        p = probabilities(outputs_of(step.learner, step.meta_params, episode))[..., : source.ways]
        is_label = step.backend.to_numpy(episode.query_y)[..., None] == np.arange(source.ways)
        found = self.errors(classes, is_label.mT @ p, is_label.sum(axis=1))
        wrong, queries = np.zeros((2, *potentials.shape))
        np.add.at(wrong, found.places, found.wrong)
        np.add.at(queries, found.places, found.queries)
        met = queries > 0
        after = self.memory * potentials + self.strength * wrong / np.where(met, queries, 1)
        figures = {"error": float(1 - p[is_label].mean())}
        return Proposal(episode, {"potentials": np.where(met, after, potentials)}, figures)


def perturbed(logs: np.ndarray, allowed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    r"""Logs with Gumbel noise: the place of the largest is drawn in proportion to their exponentials.

    The places of the largest few, largest first, are so drawn without replacement (Yellott 1977).
    """
    return np.asarray(np.where(allowed, logs + rng.gumbel(size=allowed.shape), -np.inf))
