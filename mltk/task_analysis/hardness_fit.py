r"""Accuracy by hardness: the line, and the area under it.

Dhillon, Chaudhari, Ravichandran & Soatto (2020, section 5) find that accuracy falls linearly with hardness,
$a = \alpha + \beta \, \Omega$, and compare algorithms by the area under the fitted line in the first
quadrant, $\alpha^2 / (-2 \beta)$ for $\alpha > 0 > \beta$, with accuracy in per cent. The line is theirs from
hardness zero to where it meets the axis, and the tasks of one protocol lie within a small part of that, close
to $\log(K - 1)$: the interval of the area says how far that can be trusted. Tasks of several ways spread
further, in part by $\log(K - 1)$ itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mltk.errors import SettingError
from mltk.evaluation.interval import Interval
from mltk.evaluation.student import quantile
from mltk.summary import Lines, Summary
from mltk.task_analysis.of_means import accuracies_of_tasks, correlation, of_means, of_same_tasks


@dataclass(frozen=True, repr=False)
class HardnessFit(Summary):
    r"""The least-squares line of accuracy by hardness.

    Attributes:
        intercept: $\alpha$, accuracy as a fraction.
        slope: $\beta$, a unit of hardness.
        correlation: Of hardness and accuracy.
        area: Under the line in the first quadrant, with accuracy in per cent; infinite if it does not fall.
        hardness: Of each task, ``(T,)``.
        accuracies: Likewise.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> hardness = np.asarray([1.0, 1.5, 2.0, 2.5])
        >>> fit = mltk.task_analysis.fit_by_hardness(hardness, 0.9 - 0.2 * hardness)
        >>> round(fit.slope, 6), round(fit.area.estimate, 3)
        (-0.2, 202.5)
    """

    intercept: float
    slope: float
    correlation: Interval
    area: Interval
    hardness: np.ndarray
    accuracies: np.ndarray

    def line(self, hardness: np.ndarray) -> np.ndarray:
        """The accuracies on the line, as fractions."""
        return self.intercept + self.slope * hardness

    def band(self, hardness: np.ndarray) -> np.ndarray:
        """Half the width of the 95 % confidence band of the line, point by point."""
        x, tasks = self.hardness, self.hardness.size
        scatter = float(np.sum((self.accuracies - self.line(x)) ** 2)) / (tasks - 2)
        leverage = 1 / tasks + (hardness - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2)
        return np.asarray(quantile(tasks - 2, 0.95) * np.sqrt(scatter * leverage))

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        lines = [
            ("line", f"{100 * self.intercept:.1f} % {100 * self.slope:+.1f} % a unit of hardness"),
            ("correlation", str(self.correlation)),
            ("area under the line", str(self.area)),
        ]
        return f"Accuracy by hardness, {self.hardness.size} tasks", lines


def fit_by_hardness(hardness: np.ndarray, accuracies: np.ndarray) -> HardnessFit:
    """The line of accuracy by hardness: see `mltk.task_analysis.hardness_fit`.

    Args:
        hardness: Of each task, ``(T,)`` in NumPy, at least 4, as from `mltk.hardness_metric`.
        accuracies: A learner's accuracy on each, ``(T,)``, as fractions.

    Raises:
        ShapeError: If they are not one number a task.
        NotFiniteError: If one is NaN or infinite.
        SettingError: If all tasks are equally hard, or an accuracy is not from 0 to 1.
    """
    x, y = of_same_tasks(hardness=hardness, accuracies=accuracies_of_tasks(accuracies))
    if np.ptp(x) <= 1e-12 * np.abs(x).max():
        raise SettingError(f"hardness is {x[0]:g} for all tasks; expected tasks that differ")
    centre = x.mean()
    u = x - centre

    def area(m: np.ndarray, tasks: int) -> np.ndarray:
        variance = m[2] - m[0] ** 2
        slope = (m[3] - m[0] * m[1]) / np.where(variance > 0, variance, np.nan)
        intercept = np.maximum(m[1] - slope * (m[0] + centre), 0)
        falls = slope < 0
        return np.asarray(np.where(falls, -100 * intercept**2 / (2 * np.where(falls, slope, -1)), np.inf))

    slope = float(u @ (y - y.mean()) / (u @ u))
    return HardnessFit(
        intercept=float(y.mean() - slope * centre),
        slope=slope,
        correlation=correlation(x, y),
        area=of_means(np.stack([u, y, u * u, u * y]), area),
        hardness=x,
        accuracies=y,
    )
