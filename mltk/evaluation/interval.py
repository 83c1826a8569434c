"""An estimate, how far it may be off, and for which population."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mltk.checks import check_between
from mltk.evaluation.student import half_width, quantile

SINGULAR = {"tasks": "task", "classes": "class", "groups": "group"}


@dataclass(frozen=True)
class Interval:
    """An estimate with a confidence interval, and what would be drawn anew.

    Attributes:
        estimate: The estimate.
        low: Where the interval begins; minus infinity where nothing is known.
        high: Where it ends.
        over: What it is over: ``"tasks"``, ``"classes"``, ``"groups"``, ``"seeds"`` or
            ``"seeds and classes"``.
        level: How often such intervals hold what is estimated.
        units: How many of ``over`` there were; ``None`` if that is not one number.
        reason: Why nothing is known, where that is so.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> print(mltk.evaluation.Interval(0.5, 0.4, 0.7, "classes", units=20))
        0.50 [0.40, 0.70] (95 % interval over 20 classes)
        >>> alike = mltk.evaluation.Evaluation(
        ...     "accuracy", np.asarray([0.7, 0.9]), classes=np.asarray([[0, 1], [2, 0]])
        ... )
        >>> print(alike.interval("classes"))
        0.800 [-inf, inf] (95 % interval over 3 classes, of which one is in every task)
    """

    estimate: float
    low: float
    high: float
    over: str
    level: float = 0.95
    units: int | None = None
    reason: str = ""

    @property
    def half_width(self) -> float:
        """Half the distance of its ends."""
        return (self.high - self.low) / 2

    @property
    def population(self) -> str:
        """What it is over, and why nothing is known, where that is so: ``"20 classes"``."""
        over = self.over if self.units is None else f"{self.units} {self.over}"
        if self.units == 1:
            over = f"1 {SINGULAR.get(self.over, self.over)}"
            if math.isinf(self.half_width) and not self.reason:
                return f"{over}, which says nothing of others"
        return f"{over}, {self.reason}" if self.reason else over

    def __str__(self) -> str:
        digits = decimals(self.half_width)
        estimate, low, high = (f"{bound:.{digits}f}" for bound in (self.estimate, self.low, self.high))
        return f"{estimate} [{low}, {high}] ({100 * self.level:g} % interval over {self.population})"


def decimals(half_width: float) -> int:
    """So many that two digits of half the width of an interval are shown."""
    return max(0, 1 - math.floor(math.log10(half_width))) if 0 < half_width < math.inf else 3


def over_tasks(values: np.ndarray) -> Interval:
    """The mean of a value a task, ``(T,)``, with Student's interval."""
    mean = float(values.mean())
    half = half_width(values) if math.isfinite(mean) else math.inf
    low = mean - half if math.isfinite(mean) else -math.inf
    return Interval(mean, low, mean + half, over="tasks", units=values.size)


def from_variances(
    estimate: float,
    parts: Sequence[tuple[float, float]],
    over: str,
    level: float,
    units: int | None,
    reason: str = "",
) -> Interval:
    r"""Student's interval, or of several variances the one of half the width $\sqrt{\sum_i t_i^2 v_i}$.

    That holds at least as often as it says, however few degrees of freedom one of them has (Banerjee 1960,
    *Approximate confidence interval for linear functions of means of k populations when the population
    variances are not equal*).

    Args:
        estimate: Its middle.
        parts: Each variance of the estimate, itself estimated, and its degrees of freedom: infinity, or fewer
            than one, where nothing is known.
        over: See `Interval`.
        level: See `Interval`.
        units: See `Interval`.
        reason: See `Interval`.

    Raises:
        SettingError: If the level is not between 0 and 1.
    """
    check_between("level", level)
    known = all(freedom >= 1 and math.isfinite(variance) for variance, freedom in parts)
    squares = (
        [quantile(freedom, level) ** 2 * variance for variance, freedom in parts] if known else [math.inf]
    )
    half = math.sqrt(sum(squares))
    if half < 1e-13 * abs(estimate):  # values that are equal, rounded
        half = 0.0
    return Interval(estimate, estimate - half, estimate + half, over, level, units, reason)
