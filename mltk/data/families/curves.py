"""Curves: what regression families of one input share, and how tasks are drawn from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from mltk.contracts import Backend
from mltk.data.source import generator, regression_episode
from mltk.episode import Episode

Curves = Callable[[np.ndarray], np.ndarray]
"""From inputs ``(T, N, 1)`` to outputs of that shape, without noise."""


class CurveFamily(ABC):
    """Tasks of one input and one output, whose true curves are known.

    A subclass is a frozen dataclass of its settings.

    Attributes:
        shots: Support examples a task.
        queries: Query examples a task.
        noise: Standard deviation of the noise in the targets.
    """

    shots: int
    queries: int
    noise: float

    def curves(self, n_tasks: int, rng: int | np.random.Generator) -> Curves:
        """The functions of the tasks that `sample` draws with the same seed, without noise.

        Args:
            n_tasks: How many tasks.
            rng: A seed or a generator.

        Returns:
            From inputs ``(n_tasks, N, 1)`` to outputs of that shape.

        Raises:
            SettingError: If an argument is not of its kind.
        """
        return self._curves(n_tasks, generator(rng, n_tasks))

    def sample(self, n_tasks: int, rng: int | np.random.Generator, backend: Backend) -> Episode:
        """Draw tasks; inputs and targets have shape ``(n_tasks, shots or queries, 1)``.

        See `TaskSource.sample`.
        """
        rng = generator(rng, n_tasks)
        curves = self._curves(n_tasks, rng)
        x = self._inputs((n_tasks, self.shots + self.queries, 1), rng)
        return regression_episode(x, curves(x), self.shots, backend, noise=self.noise, rng=rng)

    @abstractmethod
    def _curves(self, n_tasks: int, rng: np.random.Generator) -> Curves:
        """Draw the curves of some tasks."""

    @abstractmethod
    def _inputs(self, shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
        """Draw the inputs ``(T, N, 1)``, after the curves."""
