r"""How well any measure can predict the accuracy of an episode, and how well each does.

The accuracy $a_t$ of task $t$ on $M$ queries is its true accuracy and the luck of the queries. *Split-half
reliability* asks how well half of the queries predict the other half. Over all ways to split them, each task
by itself, the expected covariance of the two halves is $V - w$ and their expected variance $V + w$, where

$$V = \frac1{T-1} \sum_t (a_t - \bar a)^2, \qquad
  w = \frac1T \sum_t \frac{a_t (1 - a_t)}{M - 1}$$

are the variance of the accuracies and what the luck of the queries adds to it. (With
$\sum_i r_i^2 = \sum_i r_i = M a$ for answers $r_i$ that are 0 or 1, the halves $h, h'$ of a task have
$E[h h'] = a^2 - a(1-a)/(M-1)$ and $E[h^2] = a^2 + a(1-a)/(M-1)$.) The halves' correlation
$(V - w) / (V + w)$ is that of accuracies on half as many queries; by the formula of Spearman and Brown
(1910), $2r / (1 + r)$, which is exact here since halves are alike, all $M$ have

$$\rho = 1 - w / V,$$

the intraclass correlation ICC(1, M) of Shrout & Fleiss (1979). It is the correlation to expect with the
accuracy on as many *other* queries of the same tasks. A measure that knew the true accuracy would reach
$\sqrt\rho$ (Spearman 1904): that is the ceiling of what is known before the queries are answered. A measure
that sees the labels of the same queries shares their luck, and may pass it.

Intervals are by the delete-one jackknife over tasks, whose sums are had in closed form, with Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mltk.checks import check_count, check_has
from mltk.errors import NotFiniteError, SettingError, ShapeError
from mltk.evaluation.interval import Interval
from mltk.evaluation.student import quantile
from mltk.summary import Lines, Summary
from mltk.task_analysis.measures import Measures

FEWEST = 4
"""Tasks that an interval takes: of two tasks, which one fewer would leave, all correlations are perfect."""


@dataclass(frozen=True, repr=False)
class Predicted(Summary):
    r"""How well measures predict the accuracy of an episode.

    Attributes:
        reliability: $\rho$, the correlation to expect of accuracies on other queries of the same tasks.
        ceiling: $\sqrt\rho$, the largest correlation that what is known before can have.
        correlations: Pearson's correlation of each measure that varies, by name.
        needs: What each of these measures needs.
        constant: The measures that are the same for all tasks, or not finite for some.

    Examples:
        >>> import mltk
        >>> tasks = mltk.data.Blobs(ways=5, shots=2, queries=5, separation=4)
        >>> episode = tasks.sample(50, 0, mltk.backend("numpy"))
        >>> found = mltk.task_analysis.measures(episode)
        >>> accuracies = 1 - found["hardness"] / 3  # those of a learner
        >>> mltk.task_analysis.predicted(found, accuracies, queries=25).needs["hardness"]
        'query labels'
    """

    reliability: Interval
    ceiling: Interval
    correlations: Mapping[str, Interval]
    needs: Mapping[str, str]
    constant: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Everything, in what JSON knows."""

        def plain(interval: Interval) -> list[float]:
            return [interval.estimate, interval.low, interval.high]

        return {
            "reliability": plain(self.reliability),
            "ceiling": plain(self.ceiling),
            "correlations": {
                name: {"needs": self.needs[name], "correlation": plain(interval)}
                for name, interval in self.correlations.items()
            },
            "constant": list(self.constant),
        }

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`; the measures from the strongest correlation to the weakest."""
        lines = [("ceiling, √reliability", _text(self.ceiling)), ("reliability", _text(self.reliability))]
        strongest = sorted(self.correlations.items(), key=lambda item: -abs(item[1].estimate))
        lines += [(name, f"{_text(found)}  needs the {self.needs[name]}") for name, found in strongest]
        if self.constant:
            lines.append(("the same for all tasks", ", ".join(self.constant)))
        units = self.reliability.units
        return f"Correlation with the accuracy of {units} tasks [95 % interval over tasks]", lines


def ceiling(accuracies: np.ndarray, queries: int) -> tuple[Interval, Interval]:
    r"""The reliability of accuracies, and the largest correlation a measure can have with them.

    See `mltk.task_analysis.ceiling`.

    Args:
        accuracies: Of each task, ``(T,)`` in NumPy, at least 4.
        queries: $M$, how many queries each is the mean of, at least 2.

    Returns:
        $\rho$ and $\sqrt\rho$, which is 0 where luck explains all variance, with intervals over tasks.

    Raises:
        SettingError: If there are too few queries, or all accuracies are equal.
        ShapeError: If the accuracies are not ``(T,)`` with at least 4 tasks.
        NotFiniteError: If one is NaN or infinite.
    """
    check_count("queries", queries, at_least=2)
    a = _checked("accuracies", accuracies)
    if np.ptp(a) == 0:
        raise SettingError(f"accuracies are all {a[0]:g}; expected tasks that differ")

    def reliability(m: np.ndarray, tasks: int) -> np.ndarray:
        luck = (m[0] - m[1]) / (queries - 1)
        variance = (m[1] - m[0] ** 2) * tasks / (tasks - 1)
        none = variance < 1e-12  # the accuracies of all but the one left out are equal
        found: np.ndarray = np.where(none, -np.inf, 1 - luck / np.where(none, 1, variance))
        return found

    found = _jackknifed(np.stack([a, a * a]), reliability)
    return found, _mapped(found, lambda bound: math.sqrt(min(1.0, max(0.0, bound))))


def predicted(measured: Measures, accuracies: np.ndarray, queries: int) -> Predicted:
    """Each measure's correlation with the accuracy of an episode, beside its ceiling.

    The trivial baselines, which a measure should beat, are among the measures: ways, shots and confidence.

    Args:
        measured: What was measured of the tasks.
        accuracies: A learner's accuracy on each of them, ``(T,)`` in NumPy.
        queries: How many queries each is the mean of.

    Raises:
        MltkError: As `ceiling`; also if there is not one accuracy a task.
    """
    check_has("measured", measured, "without_query_labels", "mltk.task_analysis.measures(episode)")
    reliability, highest = ceiling(accuracies, queries)
    a = _checked("accuracies", accuracies)
    correlations = {}
    for name, values in measured.items():
        if values.shape != a.shape:
            raise ShapeError(f"accuracies has shape {a.shape}; expected {values.shape}, one a task measured")
        if np.isfinite(values).all() and np.ptp(values) > 1e-12 * np.abs(values).max():
            correlations[name] = correlation(values, a)
    constant = tuple(name for name in measured if name not in correlations)
    needs = {name: measured.needs[name] for name in correlations}
    return Predicted(reliability, highest, correlations, needs, constant)


def correlation(x: np.ndarray, y: np.ndarray) -> Interval:
    """Pearson's correlation with its interval over tasks.

    The interval is had on the scale of the inverse hyperbolic tangent (Fisher 1915), so that it stays within
    −1 and 1.

    Args:
        x: Values ``(T,)``, which differ.
        y: Others.
    """
    x, y = (_standardised(_checked(name, values)) for name, values in (("x", x), ("y", y)))

    def by_fisher(m: np.ndarray, tasks: int) -> np.ndarray:
        covariance = m[4] - m[0] * m[1]
        variances = (m[2] - m[0] ** 2) * (m[3] - m[1] ** 2)
        r = covariance / np.sqrt(np.maximum(variances, 1e-300))
        transformed: np.ndarray = np.arctanh(np.clip(r, -1 + 1e-15, 1 - 1e-15))
        return transformed

    return _mapped(_jackknifed(np.stack([x, y, x * x, y * y, x * y]), by_fisher), math.tanh)


def _jackknifed(moments: np.ndarray, statistic: Callable[[np.ndarray, int], np.ndarray]) -> Interval:
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


def _mapped(found: Interval, function: Callable[[float], float]) -> Interval:
    """The interval of an increasing function of what is estimated."""
    estimate, low, high = (function(bound) for bound in (found.estimate, found.low, found.high))
    return replace(found, estimate=estimate, low=low, high=high)


def _standardised(values: np.ndarray) -> np.ndarray:
    """Values around zero, so that nothing cancels in their moments."""
    centred: np.ndarray = values - values.mean()
    return centred / max(float(np.abs(centred).max()), 1e-300)


def _checked(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size < FEWEST:
        raise ShapeError(f"{name} has shape {array.shape}; expected (T,) with at least {FEWEST} tasks")
    if not np.isfinite(array).all():
        raise NotFiniteError(f"{name} holds NaN or infinity; expected finite numbers")
    return array


def _text(interval: Interval) -> str:
    return f"{interval.estimate:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"
