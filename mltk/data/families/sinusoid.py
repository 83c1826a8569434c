"""Sinusoid regression (Finn et al. 2017)."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import numpy as np

from mltk.checks import Bounds, Checked, Count, NonNegative
from mltk.data.families.curves import CurveFamily, Curves


@dataclass(frozen=True)
class Sinusoid(CurveFamily, Checked):
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

    def _curves(self, n_tasks: int, rng: np.random.Generator) -> Curves:
        amplitude, frequency, phase = (
            rng.uniform(*bounds, (n_tasks, 1, 1)) for bounds in (self.amplitude, self.frequency, self.phase)
        )
        return lambda x: amplitude * np.sin(frequency * x + phase)

    def _inputs(self, shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(*self.x, shape)
