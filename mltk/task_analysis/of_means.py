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

from mltk.arguments import numbers
from mltk.errors import SettingError, ShapeError
from mltk.evaluation.interval import Interval
from mltk.evaluation.student import quantile

FEWEST = 4
"""Tasks that an interval takes: of two tasks, which one fewer would leave, all correlations are perfect."""

ROUNDED = 1e-12
"""Numbers are equal that differ by no more, times their scale."""


def correlation(x: np.ndarray, y: np.ndarray) -> Interval:
    """Pearson's correlation with its interval over tasks.

    The interval is had on the scale of the inverse hyperbolic tangent (Fisher 1915), so that it stays within
    −1 and 1.

    Args:
        x: Values ``(T,)``, at least 4.
        y: Others.

    Returns:
        NaN where the values of one of them are all equal, or differ by rounding alone: it is undefined.

    Raises:
        ShapeError: If they are not one number a task.
        NotFiniteError: If one is NaN or infinite.
    """
    x, y = map(_standardised, of_same_tasks(x=x, y=y))

    def by_fisher(m: np.ndarray, tasks: int) -> np.ndarray:
        covariance = m[4] - m[0] * m[1]
        variances = np.stack([m[2] - m[0] ** 2, m[3] - m[1] ** 2])
        r = covariance / np.sqrt(np.where(variances > ROUNDED, variances, np.nan).prod(axis=0))
        return np.asarray(np.arctanh(np.clip(r, -1 + ROUNDED, 1 - ROUNDED)))

    return mapped(of_means(np.stack([x, y, x * x, y * y, x * y]), by_fisher), math.tanh)


def of_means(moments: np.ndarray, statistic: Callable[[np.ndarray, int], np.ndarray]) -> Interval:
    """A function of means over tasks, ``(k, T)``, and its interval by leaving out each task in turn.

    Nothing is known where the function is not finite without one of them, nor where it is the same without
    each: that does not tell how much it varies.
    """
    tasks = moments.shape[1]
    total = moments.sum(axis=1, keepdims=True)
    estimate = float(statistic(total / tasks, tasks)[0])
    without = statistic((total - moments) / (tasks - 1), tasks - 1)
    half, reason = math.inf, ""
    if not np.isfinite(without).all():
        reason = "without some of which it is undefined"
    elif np.ptp(without) <= ROUNDED * max(1.0, np.abs(without).max()):
        reason = "without any of which it is the same"
    else:
        squares = float(np.sum((without - without.mean()) ** 2))
        half = quantile(tasks - 1, 0.95) * math.sqrt((tasks - 1) / tasks * squares)
    return Interval(estimate, estimate - half, estimate + half, over="tasks", units=tasks, reason=reason)


def mapped(found: Interval, function: Callable[[float], float]) -> Interval:
    """The interval of an increasing function of what is estimated."""
    estimate, low, high = (function(bound) for bound in (found.estimate, found.low, found.high))
    return replace(found, estimate=estimate, low=low, high=high)


def _standardised(values: np.ndarray) -> np.ndarray:
    """Values around zero, so that nothing cancels in their moments; zeros where they are equal."""
    scaled: np.ndarray = values / (float(np.abs(values).max()) or 1.0)
    if np.ptp(scaled) <= ROUNDED:
        return np.zeros_like(scaled)
    centred: np.ndarray = scaled - scaled.mean()
    return centred / float(np.abs(centred).max())


def values_of_tasks(name: str, values: Any) -> np.ndarray:
    """Numbers ``(T,)`` of enough tasks, in float64.

    Raises:
        ShapeError: If they are not of this form.
        NotFiniteError: If one is NaN or infinite.
    """
    array = numbers(name, values, "T")
    if array.size < FEWEST:
        raise ShapeError(f"{name} has shape {array.shape}; expected (T,) with at least {FEWEST} tasks")
    return array


def accuracies_of_tasks(accuracies: Any) -> np.ndarray:
    """Accuracies ``(T,)`` of enough tasks.

    Raises:
        MltkError: As `values_of_tasks`; also if one is not from 0 to 1.
    """
    found = values_of_tasks("accuracies", accuracies)
    outside = found[(found < 0) | (found > 1)]
    if outside.size:
        raise SettingError(f"accuracies holds {outside[0]:g}; expected fractions from 0 to 1")
    return found


def of_same_tasks(**arguments: Any) -> list[np.ndarray]:
    """`values_of_tasks` of each, which are of as many tasks as the first.

    Raises:
        MltkError: As `values_of_tasks`; also if they are not.
    """
    first, *_ = arguments
    found = [values_of_tasks(name, values) for name, values in arguments.items()]
    for name, array in zip(arguments, found, strict=True):
        if array.shape != found[0].shape:
            raise ShapeError(f"{name} has shape {array.shape}; expected {found[0].shape} as {first}")
    return found
