r"""Sets of classes that hold the right one with a chosen probability, whatever the learner is worth.

Split conformal prediction with the *task* as the exchangeable unit (Fisch et al. 2021; Dunn, Wasserman &
Ramdas 2022): queries of one task are not independent of each other, and tasks are. Of each of $T$ calibration
tasks one query is drawn, with the score $s_t = 1 - p_t(y_t)$, one minus the probability of its right class.
With $k = \lceil (T + 1)(1 - \alpha) \rceil$ the threshold $\hat q$ is the $k$-th smallest of them, and the
set of a query holds the classes of scores up to $\hat q$. For a query of a new task, drawn like those,

$$1 - \alpha \le P(y \in C) \quad \big(\, \le 1 - \alpha + \tfrac1{T + 1} \text{ where no two scores are
equal} \,\big).$$

Given the calibration tasks, coverage is $\text{Beta}(k, T + 1 - k)$ over draws of them (Vovk 2012). With
$k > T$, that is with fewer than $1 / \alpha - 1$ tasks, nothing can be promised but by sets of all classes.
It is a promise for the average task: in some tasks coverage is less, which `coverage` shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from mltk.backend import common_backend
from mltk.checks import Between, CountOrZero, checked
from mltk.errors import DtypeError, ShapeError
from mltk.evaluation.interval import Interval, over_tasks
from mltk.evaluation.probabilities import checked_probabilities, judged, of_labels, with_labels
from mltk.summary import Lines, Summary
from mltk.tree import Array


@dataclass(frozen=True, repr=False)
class ConformalSets(Summary):
    """Sets of classes at a threshold: see `mltk.evaluation.conformal`.

    Attributes:
        alpha: How often the right class may be missed.
        threshold: The largest score in a set; infinite where sets hold all classes.
        tasks: Calibration tasks.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> sure = np.tile([[0.9, 0.1]], (99, 3, 1))
        >>> sets = mltk.evaluation.conformal_sets(sure, np.zeros((99, 3), dtype=int), alpha=0.1)
        >>> sets(np.asarray([[[0.95, 0.05], [0.5, 0.5]]]))
        array([[[ True, False],
                [False, False]]])
    """

    alpha: float
    threshold: float
    tasks: int

    def __call__(self, probabilities: Array) -> np.ndarray:
        """Which classes are in the sets, booleans ``(T, M, ways)``.

        Args:
            probabilities: For each class of the queries, ``(T, M, ways)`` or ``(n, ways)``, of any backend.

        Raises:
            MltkError: If they are not of this form.
        """
        return np.asarray(1 - checked_probabilities(probabilities) <= self.threshold)

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        promise = f"at least {1 - self.alpha:.4g} of the queries of new tasks"
        if math.isinf(self.threshold):
            least = math.ceil(1 / self.alpha - 1 - 1e-9)
            promise = f"all classes are in all sets: {self.tasks} tasks are too few; expected {least}"
        lines = [("coverage", promise), ("threshold", f"{self.threshold:.4f} of one minus the probability")]
        return f"Conformal sets, calibrated on {self.tasks:,} tasks", lines


@dataclass(frozen=True)
class Coverage:
    """How sets did on tasks whose labels are known.

    Attributes:
        coverage: How often they hold the right class, with its interval over tasks.
        size: Their mean size, likewise.
        of_tasks: The coverage of each task, ``(T,)``.
    """

    coverage: Interval
    size: Interval
    of_tasks: np.ndarray = field(repr=False)


@checked
def conformal_sets(
    probabilities: Array, labels: Array, *, alpha: Between = 0.1, seed: CountOrZero = 0
) -> ConformalSets:
    """Calibrate sets of classes: see `mltk.evaluation.conformal`.

    Args:
        probabilities: For each class of the queries of calibration tasks, ``(T, M, ways)`` or ``(n, ways)``,
            of any backend; tasks that no training has seen, drawn like those to come.
        labels: The right classes, ``(T, M)`` or ``(n,)``.
        alpha: How often the right class may be missed, between 0 and 1.
        seed: Seed of the query that is drawn of each task.

    Raises:
        SettingError: If a setting is not valid.
        MltkError: If the arrays are not of this form.
    """
    p, y = judged(probabilities, labels)
    tasks, queries = y.shape
    chosen = np.random.default_rng(seed).integers(queries, size=tasks)
    scores = np.sort((1 - of_labels(p, y))[np.arange(tasks), chosen])
    place = math.ceil((tasks + 1) * (1 - alpha) - 1e-9)  # what is an integer but for rounding is one
    return ConformalSets(alpha, float(scores[place - 1]) if place <= tasks else math.inf, tasks)


def coverage(sets: Array, labels: Array) -> Coverage:
    """How often sets hold the right class, and how large they are.

    Args:
        sets: Booleans ``(T, M, ways)``, as from `ConformalSets`, of any backend.
        labels: The right classes, ``(T, M)`` or ``(n,)``.

    Raises:
        DtypeError: If the sets are not booleans.
        ShapeError: If they are of another shape, or of no query.
        MltkError: If the labels do not fit them.
    """
    sets = common_backend(sets=[sets]).to_numpy(sets)
    if sets.dtype != bool:
        raise DtypeError(f"sets has dtype {sets.dtype}; expected booleans, as ConformalSets gives")
    if sets.ndim != 3 or not sets.size:
        raise ShapeError(f"sets has shape {sets.shape}; expected (T, M, ways)")
    y = with_labels(sets, labels)
    of_tasks = of_labels(sets, y).mean(axis=1)
    return Coverage(over_tasks(of_tasks), over_tasks(sets.sum(axis=-1).mean(axis=1)), of_tasks)
