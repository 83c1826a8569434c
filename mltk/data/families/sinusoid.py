"""Sinusoid regression (Finn et al. 2017)."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass

import numpy as np

from mltk.backend import common_backend
from mltk.checks import Bounds, Checked, Count, NonNegative
from mltk.data.families.curves import CurveFamily, Curves
from mltk.data.families.sinusoid_posterior import posterior
from mltk.errors import SettingError, ShapeError
from mltk.tree import Array


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

    def bayes_predict(self, support_x: Array, support_y: Array, query_x: Array) -> Array:
        """The posterior mean of the queries' targets: the prediction with the least expected squared error.

        It is computed on the host in float64; see `mltk.data.families.sinusoid_posterior`.

        Args:
            support_x: Inputs ``(T, N, 1)``, of any backend; ``N`` need not be ``shots``.
            support_y: Targets ``(T, N, 1)``.
            query_x: Inputs ``(T, M, 1)``.

        Returns:
            Predictions ``(T, M, 1)``.

        Raises:
            ShapeError: If a shape is not as above.
            SettingError: If ``frequency`` is not one number twice, another range is a single number, or there
                is no noise and no curve of the family goes through the support set.
        """
        backend = common_backend(support_x=(support_x,), support_y=(support_y,), query_x=(query_x,))
        rows, mean, _ = self._posterior(*(backend.to_numpy(a) for a in (support_x, support_y, query_x)))
        return backend.asarray(rows @ mean[..., None])

    def bayes_error(self, support_x: Array, support_y: Array, query_x: Array) -> Array:
        """The mean squared error of `bayes_predict` that the support set lets expect, noise included.

        Its mean over many tasks is the least error that any algorithm can reach.

        Args:
            support_x: As for `bayes_predict`, as are the others, and the errors.
            support_y: Targets.
            query_x: Inputs.

        Returns:
            Errors ``(T,)``.
        """
        backend = common_backend(support_x=(support_x,), support_y=(support_y,), query_x=(query_x,))
        rows, _, covariance = self._posterior(*(backend.to_numpy(a) for a in (support_x, support_y, query_x)))
        variance = np.sum((rows @ covariance) * rows, axis=-1)
        return backend.asarray(self.noise**2 + np.mean(variance, axis=-1))

    def _posterior(
        self, support_x: np.ndarray, support_y: np.ndarray, query_x: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows of the queries ``(T, M, 2)``, and mean and covariance of what they are multiplied by."""
        if self.frequency[0] != self.frequency[1]:
            raise SettingError(f"frequency is {self.frequency}; the posterior is known for one alone")
        for name, x in (("support_x", support_x), ("support_y", support_y), ("query_x", query_x)):
            expected = support_x.shape if name == "support_y" else (len(support_x), x.shape[1], 1)
            if x.ndim != 3 or x.shape != expected:
                raise ShapeError(f"{name} has shape {x.shape}; expected (T, N, 1)")
        support, query = (
            np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
            for angles in (self.frequency[0] * x.astype(np.float64) for x in (support_x, query_x))
        )
        targets = support_y[..., 0].astype(np.float64)
        ranges = {"amplitude": self.amplitude, "phase": self.phase}
        return query, *posterior(support, targets, **ranges, noise=self.noise)

    def _curves(self, n_tasks: int, rng: np.random.Generator) -> Curves:
        amplitude, frequency, phase = (
            rng.uniform(*bounds, (n_tasks, 1, 1)) for bounds in (self.amplitude, self.frequency, self.phase)
        )
        return lambda x: amplitude * np.sin(frequency * x + phase)

    def _inputs(self, shape: tuple[int, int, int], rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(*self.x, shape)
