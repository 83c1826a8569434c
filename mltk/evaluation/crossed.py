r"""How much a mean would change with other trainings *and* other classes or tasks.

Every one of $R$ trainings is judged on the same tasks. The variance of the mean over all of them is that of
the trainings, plus that of the classes (or tasks), less what both of these count, the part in which the
classes matter differently to each training (as Cameron, Gelbach & Miller 2011 cluster two ways):

$$V = V_\text{seeds} + V_\text{classes} - V_\text{both}, \qquad
  V_\text{both} = \frac1{R (R-1)} \sum_r V_\text{classes}\big[a_{rt} - \bar a_t\big].$$

The part of the trainings has $R - 1$ degrees of freedom, which are few, the rest those of the classes: see
`mltk.evaluation.interval.from_variances`.
"""

from __future__ import annotations

import numpy as np

from mltk.evaluation import jackknife


def variances(values: np.ndarray, of: jackknife.Units | None) -> list[tuple[float, float]]:
    """Both parts of the variance of the mean over runs and tasks, each with its degrees of freedom.

    Args:
        values: ``(runs, tasks)`` float64, of at least two runs.
        of: The classes of the tasks; ``None`` if they are not known, for other tasks instead of classes.
    """
    runs, tasks = values.shape
    if tasks < 2 or (of is not None and of.unknown):
        return [(np.inf, 0.0)]
    mean = values.mean(axis=0)
    seeds = float(np.var(values.mean(axis=1), ddof=1)) / runs
    apart = values - mean
    if of is None:
        others, apiece = (np.var(each, axis=-1, ddof=1) / tasks for each in (mean, apart))
        freedom = tasks - 1.0
    else:
        others, degrees = jackknife.variance(mean, of)
        apiece, freedom = jackknife.variance(apart, of)[0], float(degrees)
    both = float(np.sum(apiece)) / (runs * (runs - 1))
    rest = max(float(others) - both, float(others) - seeds, 0.0)
    return [(seeds, runs - 1), (rest, freedom)]
