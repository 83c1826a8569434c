"""Sinusoid regression (Finn et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

import numpy as np

from mltk.checks import Bounds, Checked, Count, NonNegative
from mltk.contracts import Backend
from mltk.data.source import generator, regression_episode
from mltk.episode import Episode


@dataclass(frozen=True)
class Sinusoid(Checked):
    r"""Tasks $y = A \sin(\omega x + b) + \epsilon$; $A$, $\omega$, $b$ and the inputs are uniform.

    Finn, Abbeel & Levine (2017), section 5.1; Li et al. (2017) use ``frequency=(0.8, 1.2)``.

    Attributes:
        shots: Support examples a task.
        queries: Query examples a task.
        amplitude: Range of $A$.
        frequency: Range of $\omega$, radians per unit of $x$.
        phase: Range of $b$, radians.
        x: Range of the inputs.
        noise: Standard deviation of the Gaussian $\epsilon$, drawn anew for each support and query target.

    Raises:
        SettingError: If a count is not a positive integer, a range not in order, or the noise negative.

    Examples:
        >>> import mltk
        >>> episode = mltk.data.Sinusoid(shots=5, queries=10).sample(4, rng=0, backend=mltk.backend("numpy"))
        >>> episode.support_x.shape, episode.query_y.shape
        ((4, 5, 1), (4, 10, 1))
    """

    shots: Count
    queries: Count
    _: KW_ONLY
    amplitude: Bounds = (0.1, 5.0)
    frequency: Bounds = (1.0, 1.0)
    phase: Bounds = (0.0, math.pi)
    x: Bounds = (-5.0, 5.0)
    noise: NonNegative = 0.0

    def curves(self, n_tasks: int, rng: int | np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
        """The functions of the tasks that `sample` draws with the same seed, without noise.

        Args:
            n_tasks: How many tasks.
            rng: A seed or a generator.

        Returns:
            From inputs ``(n_tasks, N, 1)`` to outputs of that shape.

        Raises:
            SettingError: If an argument is not of its kind.
        """
        rng = generator(rng, n_tasks)
        amplitude, frequency, phase = (
            rng.uniform(*bounds, (n_tasks, 1, 1)) for bounds in (self.amplitude, self.frequency, self.phase)
        )
        return lambda x: amplitude * np.sin(frequency * x + phase)

    def sample(self, n_tasks: int, rng: int | np.random.Generator, backend: Backend) -> Episode:
        """Draw tasks; inputs and targets have shape ``(n_tasks, shots or queries, 1)``.

        Args:
            n_tasks: How many.
            rng: A seed or a generator.
            backend: Where the arrays go.

        Raises:
            SettingError: If an argument is not of its kind.
        """
        rng = generator(rng, n_tasks)
        curves = self.curves(n_tasks, rng)
        x = rng.uniform(*self.x, (n_tasks, self.shots + self.queries, 1))
        return regression_episode(x, curves(x), self.shots, backend, noise=self.noise, rng=rng)
