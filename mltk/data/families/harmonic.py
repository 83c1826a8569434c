"""Regression of two harmonics (Lacoste et al. 2018)."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import numpy as np

from mltk.checks import Bounds, Checked, Count, NonNegative
from mltk.data.families.curves import CurveFamily, Curves


@dataclass(frozen=True)
class Harmonic(CurveFamily, Checked):
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

    def _curves(self, n_tasks: int, rng: np.random.Generator) -> Curves:
        amplitudes = rng.normal(0, self.amplitude, (n_tasks, 1, 2))
        frequency = rng.uniform(*self.frequency, (n_tasks, 1, 1))
        phases = rng.uniform(*self.phase, (n_tasks, 1, 2))

        def curves(x: np.ndarray) -> np.ndarray:
            waves = amplitudes * np.sin(frequency * x * np.asarray([1, 2]) + phases)
            return waves.sum(axis=-1, keepdims=True)  # type: ignore[no-any-return]

        return curves

    def _inputs(self, shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
        centre = rng.uniform(*self.centre, (shape[0], 1, 1))
        return centre + rng.normal(0, self.spread, shape)
