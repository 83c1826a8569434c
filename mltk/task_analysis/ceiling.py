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

Intervals are those of `mltk.task_analysis.of_means`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mltk.checks import check_count, check_has
from mltk.errors import SettingError, ShapeError
from mltk.evaluation.interval import Interval
from mltk.summary import Lines, Summary
from mltk.task_analysis.measures import Measures
from mltk.task_analysis.of_means import accuracies_of_tasks, correlation, mapped, of_means


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
        accuracies: Of each task, ``(T,)`` in NumPy, at least 4, as fractions.
        queries: $M$, how many queries each is the mean of, at least 2.

    Returns:
        $\rho$ and $\sqrt\rho$, which is 0 where luck explains all variance, with intervals over tasks.

    Raises:
        SettingError: If there are too few queries, all accuracies are equal, or one is not from 0 to 1.
        ShapeError: If the accuracies are not ``(T,)`` with at least 4 tasks.
        NotFiniteError: If one is NaN or infinite.
    """
    check_count("queries", queries, at_least=2)
    a = accuracies_of_tasks(accuracies)
    if np.ptp(a) == 0:
        raise SettingError(f"accuracies are all {a[0]:g}; expected tasks that differ")

    def reliability(m: np.ndarray, tasks: int) -> np.ndarray:
        luck = (m[0] - m[1]) / (queries - 1)
        variance = (m[1] - m[0] ** 2) * tasks / (tasks - 1)
        none = variance < 1e-12  # the accuracies of all but the one left out are equal
        return np.asarray(np.where(none, -np.inf, 1 - luck / np.where(none, 1, variance)))

    found = mapped(of_means(np.stack([a, a * a]), reliability), lambda bound: min(1.0, bound))
    return found, mapped(found, lambda bound: math.sqrt(min(1.0, max(0.0, bound))))


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
    a = accuracies_of_tasks(accuracies)
    correlations = {}
    for name, values in measured.items():
        if values.shape != a.shape:
            raise ShapeError(f"accuracies has shape {a.shape}; expected {values.shape}, one a task measured")
        if np.isfinite(values).all() and np.ptp(values) > 1e-12 * np.abs(values).max():
            correlations[name] = correlation(values, a)
    constant = tuple(name for name in measured if name not in correlations)
    needs = {name: measured.needs[name] for name in correlations}
    return Predicted(reliability, highest, correlations, needs, constant)


def _text(interval: Interval) -> str:
    return f"{interval.estimate:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"
