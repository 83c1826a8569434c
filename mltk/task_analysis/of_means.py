"""Statistics of tasks that are functions of means over them, and their intervals over tasks.

An interval is by the delete-one jackknife (Tukey 1958), for which the means without a task are had in closed
form, with Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mltk.errors import NotFiniteError, ShapeError
from mltk.evaluation.interval import Interval
from mltk.evaluation.student import quantile

FEWEST = 4
"""Tasks that an interval takes: of two tasks, which one fewer would leave, all correlations are perfect."""


def correlation(x: np.ndarray, y: np.ndarray) -> Interval:
    """Pearson's correlation with its interval over tasks.

    The interval is had on the scale of the inverse hyperbolic tangent (Fisher 1915), so that it stays within
    −1 and 1.

    Args:
        x: Values ``(T,)``, which differ.
        y: Others.
    """
    x, y = (_standardised(values_of_tasks(name, values)) for name, values in (("x", x), ("y", y)))

    def by_fisher(m: np.ndarray, tasks: int) -> np.ndarray:
        covariance = m[4] - m[0] * m[1]
        variances = (m[2] - m[0] ** 2) * (m[3] - m[1] ** 2)
        r = covariance / np.sqrt(np.maximum(variances, 1e-300))
        transformed: np.ndarray = np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15))
        return transformed

    return mapped(of_means(np.stack([x, y, x * x, y * y, x * y]), by_fisher), math.tanh)


def of_means(moments: np.ndarray, statistic: Callable[[np.ndarray, int], np.ndarray]) -> Interval:
    """A function of means over tasks, ``(k, T)``, and its interval by leaving out each task in turn.

    Nothing is known where the function is not finite without one of them.
    """
    tasks = moments.shape[1]
    total = moments.sum(axis=1, keepdims=True)
    estimate = float(statistic(total / tasks, tasks)[0])
    without = statistic((total - moments) / (tasks - 1), tasks - 1)
    half = math.inf
    if np.isfinite(without).all():
        squares = float(np.sum((without - without.mean()) ** 2))
        half = quantile(tasks - 1, 0.95) * math.sqrt((tasks - 1) / tasks * squares)
    return Interval(estimate, estimate - half, estimate + half, over="tasks", units=tasks)


def mapped(found: Interval, function: Callable[[float], float]) -> Interval:
    """The interval of an increasing function of what is estimated."""
    estimate, low, high = (function(bound) for bound in (found.estimate, found.low, found.high))
    return replace(found, estimate=estimate, low=low, high=high)


def _standardised(values: np.ndarray) -> np.ndarray:
    """Values around zero, so that nothing cancels in their moments."""
    centred: np.ndarray = values - values.mean()
    return centred / max(float(np.abs(centred).max()), 1e-300)


def values_of_tasks(name: str, values: Any) -> np.ndarray:
    """Numbers ``(T,)`` of enough tasks, in float64.

    Raises:
        ShapeError: If they are not of this form.
        NotFiniteError: If one is NaN or infinite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size < FEWEST:
        raise ShapeError(f"{name} has shape {array.shape}; expected (T,) with at least {FEWEST} tasks")
    if not np.isfinite(array).all():
        raise NotFiniteError(f"{name} holds NaN or infinity; expected finite numbers")
    return array
