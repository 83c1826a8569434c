r"""How much a mean over tasks would change with other classes: the delete-one jackknife.

The mean accuracy $\hat\theta$ over $N$ tasks is an incomplete U-statistic: the tasks are some of the subsets
of $C$ classes, and of other classes it would be another one. With $m_c$ tasks that do without class $c$, and
$\theta_{-c}$ their mean, the jackknife (Efron & Stein 1981, equation 1.4) says by how much,

$$v = \frac{C-1}{C} \sum_c \big(\theta_{-c} - \bar\theta\big)^2, \qquad
  \theta_{-c} = \sum_t w_{ct} a_t, \qquad w_{ct} = [c \notin t] / m_c .$$

But the $\theta_{-c}$ differ already because each is of other tasks. Were the accuracies of the tasks
permuted, which takes all influence of the classes away, $v$ would be, since $\sum_t (w_{ct} - \bar w_t) = 0$,

$$v_0 = \frac{C-1}{C}\, s^2 \sum_c \sum_t \big(w_{ct} - \bar w_t\big)^2
  = \frac{C-1}{C}\, s^2 \Big(\sum_c \frac1{m_c} - C \sum_t \bar w_t^2\Big)$$

on average over all permutations, with the variance $s^2$ of the accuracies and the mean $\bar w_t$ of the
weights over the classes. So the variance of $\hat\theta$ is estimated by $V = \max(v - v_0, 0) + s^2 / N$:
what other classes would change, and what other tasks of the same classes would. Taking $v_0$ away leaves
less to know $V$ by than $C - 1$ degrees of freedom: it is given $\min(V / v, 1) (C - 1)$, a rule that was
chosen because the intervals then hold the truth as often as they say: see ``tests/evaluation/coverage.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Units:
    """Which classes, or groups of them, the tasks are of.

    Attributes:
        task: The task of each pair of a task and a unit that it touches, ``(pairs,)``.
        unit: Its unit, from 0 on without gaps, ``(pairs,)``.
        n_tasks: How many tasks.
        n_units: How many units.
    """

    task: np.ndarray
    unit: np.ndarray
    n_tasks: int
    n_units: int

    @property
    def without(self) -> np.ndarray:
        """How many tasks do without each unit, ``(units,)``."""
        return np.asarray(self.n_tasks - np.bincount(self.unit, minlength=self.n_units))

    @property
    def unknown(self) -> str:
        """Why nothing can be said of other units; empty where something can."""
        if self.n_units < 2:
            return "which says nothing of others"
        if self.n_tasks < 2:
            return "all of them in one task"
        return "" if self.without.min() else "of which one is in every task"


def units(numbers: np.ndarray) -> Units:
    """The units of tasks.

    Args:
        numbers: Integers ``(tasks, ways)``: the classes of each task, or their groups, which may be the same;
            -1 stands for none.
    """
    rows = np.broadcast_to(np.arange(len(numbers))[:, None], numbers.shape)
    there = numbers >= 0
    names, unit = np.unique(numbers[there], return_inverse=True)
    pairs = np.unique(rows[there] * len(names) + unit)
    return Units(*np.divmod(pairs, max(len(names), 1)), len(numbers), len(names))


def variance(values: np.ndarray, of: Units) -> tuple[np.ndarray, np.ndarray]:
    """The variance of a mean over tasks, for other units and other tasks, and its degrees of freedom.

    Args:
        values: ``(…, tasks)`` float64.
        of: The units of the tasks.

    Returns:
        Both ``(…)``. The variance is infinite where nothing can be said: for a single unit or task, and where
        a unit is in every task, so that none is left without it.
    """
    leading = values.shape[:-1]
    without = of.without
    if of.unknown:
        return np.full(leading, np.inf), np.ones(leading)
    flat = values.reshape(-1, of.n_tasks)
    spread = np.var(flat, axis=-1, ddof=1)
    centred = flat - flat.mean(axis=-1, keepdims=True)  # so that no digit is lost to a large mean
    touched = np.stack([np.bincount(of.unit, row[of.task], of.n_units) for row in centred])
    left_out = -touched / without
    inverse = 1 / without
    weights = (inverse.sum() - np.bincount(of.task, inverse[of.unit], of.n_tasks)) / of.n_units
    scale = (of.n_units - 1) / of.n_units
    found = scale * np.sum((left_out - left_out.mean(axis=-1, keepdims=True)) ** 2, axis=-1)
    chance = scale * spread * (inverse.sum() - of.n_units * np.sum(weights**2))
    total = np.maximum(found - chance, 0.0) + spread / of.n_tasks
    share = np.minimum(np.divide(total, found, out=np.ones_like(total), where=found > 0), 1.0)
    return total.reshape(leading), np.maximum(share * (of.n_units - 1), 1.0).reshape(leading)
