"""Regression of two harmonics (Lacoste et al. 2018)."""

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
class Harmonic(Checked):
    r"""Tasks $y = A_1 \sin(\omega x + b_1) + A_2 \sin(2 \omega x + b_2) + \epsilon$.

    The Harmonic tasks of Lacoste, Oreshkin, Chung, Boquet, Rostamzadeh & Krueger (2018): a sinusoid and its
    first overtone, seen through a window whose place differs from task to task. The amplitudes are
    Gaussian, $A_1, A_2 \sim N(0, s^2)$, and so are a task's inputs, $x \sim N(c, r^2)$; frequency, phases and
    centre $c$ are uniform.

    Attributes:
        shots: Support examples a task.
        queries: Query examples a task.
        amplitude: Standard deviation $s$ of both amplitudes.
        frequency: Range of $\omega$, radians per unit of $x$.
        phase: Range of $b_1$ and $b_2$, radians.
        centre: Range of $c$.
        spread: Standard deviation $r$ of the inputs around the centre.
        noise: Standard deviation of the Gaussian $\epsilon$, drawn anew for each support and query target.

    Raises:
        SettingError: If a count is not a positive integer, a range not in order, or a standard deviation
            negative.

    Examples:
        >>> import mltk
        >>> episode = mltk.data.Harmonic(shots=5, queries=10).sample(4, rng=0, backend=mltk.backend("numpy"))
        >>> episode.support_x.shape, episode.query_y.shape
        ((4, 5, 1), (4, 10, 1))
    """

    shots: Count
    queries: Count
    _: KW_ONLY
    amplitude: NonNegative = 1.0
    frequency: Bounds = (5.0, 7.0)
    phase: Bounds = (0.0, 2 * math.pi)
    centre: Bounds = (-4.0, 4.0)
    spread: NonNegative = 1.0
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
        amplitudes = rng.normal(0, self.amplitude, (n_tasks, 1, 2))
        frequency = rng.uniform(*self.frequency, (n_tasks, 1, 1))
        phases = rng.uniform(*self.phase, (n_tasks, 1, 2))

        def curves(x: np.ndarray) -> np.ndarray:
            waves = amplitudes * np.sin(frequency * x * np.asarray([1, 2]) + phases)
            return waves.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]

        return curves

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
        centre = rng.uniform(*self.centre, (n_tasks, 1, 1))
        x = centre + rng.normal(0, self.spread, (n_tasks, self.shots + self.queries, 1))
        return regression_episode(x, curves(x), self.shots, backend, noise=self.noise, rng=rng)
