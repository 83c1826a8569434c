r"""A threshold whose expected loss on a new task stays below a wanted one.

Conformal risk control (Angelopoulos, Bates, Fisch, Lei & Schuster 2024, theorem 1) with the task as the unit:
let $L_t(\lambda) \le B$ be the loss of calibration task $t$ at the threshold $\lambda$, any that does not
rise with it, such as the part of a set's members that are missing, or of all questions that are answered
wrongly. Then, for a new task drawn like those,

$$\hat\lambda = \inf \Big\{ \lambda : \frac{T \bar L(\lambda) + B}{T + 1} \le \alpha \Big\}
  \quad\text{has}\quad \mathbb E\, L_{T+1}(\hat\lambda) \le \alpha,$$

and no less than $\alpha - 2 B / (T + 1)$ (theorem 2) where tasks are independent, losses are not negative,
and none jumps at a given threshold but with probability zero. Where no threshold is good enough, as with
$(T + 1)\, \alpha < B$ for losses that are not negative, $\hat\lambda = \infty$, and the promise holds if what
is then done costs at most $\alpha$: sets of all classes, or no answer. Of finitely many thresholds the
smallest that will do keeps the promise as well.

The loss of `controlled_sets` is the part of a task's queries whose right class is missing in their sets,
those of the classes of probability at least $1 - \lambda$; $B = 1$. Unlike one query a task
(`mltk.evaluation.conformal`) it uses all of them. It is a step function, which falls where $\lambda$ meets
the score $1 - p(y)$ of a query: so the scores are all thresholds that matter.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mltk.checks import check_between, check_number, check_scale
from mltk.errors import SettingError, ShapeError
from mltk.evaluation.conformal import ConformalSets
from mltk.evaluation.probabilities import host, judged, of_labels
from mltk.summary import Lines, Summary
from mltk.tree import Array

ROUNDING = 1e-9
"""What rounding errors may do to a loss, relative to the bound."""


@dataclass(frozen=True, repr=False)
class ControlledRisk(Summary):
    """A threshold that controls the loss of new tasks: see `mltk.evaluation.risk_control`.

    Attributes:
        alpha: The largest expected loss of a new task.
        threshold: The smallest threshold that promises it; infinite where none does.
        loss: The mean loss of the calibration tasks there; NaN where there is none.
        tasks: Calibration tasks.
        bound: The largest loss that a task can have.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> rng, thresholds = np.random.default_rng(0), np.linspace(0, 1, 101)
        >>> confidence = rng.uniform(size=(200, 10))  # of calibrated answers, which are right so often
        >>> wrong = rng.uniform(size=(200, 10)) > confidence
        >>> def answered_wrongly(threshold):
        ...     return (wrong & (confidence > threshold)).mean(axis=1)
        >>> print(mltk.evaluation.control_risk(answered_wrongly, thresholds, alpha=0.1))
        Risk control, calibrated on 200 tasks
          expected loss  at most 0.1 on a new task; 0.09 on these
          threshold      0.57, for losses up to 1
    """

    alpha: float
    threshold: float
    loss: float
    tasks: int
    bound: float

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        title = f"Risk control, calibrated on {self.tasks:,} tasks"
        if math.isinf(self.threshold):
            return title, [("threshold", f"none: no threshold promises a loss of {self.alpha:.4g}")]
        return title, [
            ("expected loss", f"at most {self.alpha:.4g} on a new task; {self.loss:.4g} on these"),
            ("threshold", f"{self.threshold:.6g}, for losses up to {self.bound:.4g}"),
        ]


def control_risk(
    losses: Array | Callable[[float], Array], thresholds: Array, *, alpha: float, bound: float = 1.0
) -> ControlledRisk:
    r"""The smallest threshold with an expected loss of a new task of at most ``alpha``.

    See `mltk.evaluation.risk_control`.

    Args:
        losses: Of calibration tasks at each threshold, ``(T, G)``, of any backend, or a function from a
            threshold to the losses ``(T,)``, which is asked at about $\log_2 G$ of them. A loss must not rise
            with the threshold, and that is checked where it is known; if all rise, negate the thresholds.
        thresholds: In increasing order, ``(G,)``, chosen without a look at the losses, or where these jump.
        alpha: The largest expected loss.
        bound: The largest loss that any task can have.

    Raises:
        SettingError: If a loss rises or is above the bound, thresholds do not rise, or a number is not valid.
        ShapeError: If losses and thresholds do not fit each other.
        MltkError: If they are no arrays of finite floating numbers.
    """
    check_scale("alpha", alpha, positive=True)
    check_number("bound", bound)
    grid = host("thresholds", thresholds)
    if grid.ndim != 1 or not (np.diff(grid) > 0).all():
        raise SettingError(f"thresholds has shape {grid.shape}; expected (G,) numbers in increasing order")
    table = {}
    if not callable(losses):
        of_all = host("losses", losses)
        if of_all.ndim != 2 or of_all.shape[1] != grid.size:
            raise ShapeError(f"losses has shape {of_all.shape}; expected (T, {grid.size}), one a threshold")
        table = dict(enumerate(of_all.T))

    def is_enough(place: int) -> bool:
        if callable(losses):
            table[place] = host("losses", losses(float(grid[place])))
        own = table[place]
        return bool(own.sum() + bound <= alpha * (own.size + 1) + ROUNDING * abs(bound))

    place = bisect_left(range(grid.size), True, key=is_enough)
    _check_losses(table, grid, bound)
    tasks = len(next(iter(table.values())))
    if place == grid.size:
        return ControlledRisk(alpha, math.inf, math.nan, tasks, bound)
    return ControlledRisk(alpha, float(grid[place]), float(table[place].mean()), tasks, bound)


def controlled_sets(probabilities: Array, labels: Array, *, alpha: float = 0.1) -> ConformalSets:
    """Sets that miss the right class in an expected part ``alpha`` of a new task's queries, at most.

    See `mltk.evaluation.risk_control`.

    Args:
        probabilities: For each class of the queries of calibration tasks, ``(T, M, ways)`` or ``(n, ways)``,
            of any backend.
        labels: The right classes, ``(T, M)`` or ``(n,)``.
        alpha: What part may be missed, between 0 and 1.

    Raises:
        SettingError: If ``alpha`` is not valid.
        MltkError: If the arrays are not of this form.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> probabilities = np.tile([[0.9, 0.1], [0.6, 0.4]], (19, 1, 1))
        >>> sets = mltk.evaluation.controlled_sets(probabilities, np.zeros((19, 2), dtype=int), alpha=0.1)
        >>> round(sets.threshold, 3)
        0.4
    """
    check_between("alpha", alpha)
    scores = 1 - of_labels(*judged(probabilities, labels))
    found = control_risk(lambda level: np.mean(scores > level, axis=1), np.unique(scores), alpha=alpha)
    return ConformalSets(alpha, found.threshold, found.tasks)


def _check_losses(table: dict[int, np.ndarray], grid: np.ndarray, bound: float) -> None:
    """Raise unless the losses at some places of the grid fit each other, the bound, and fall."""
    places = sorted(table)
    shapes = {table[place].shape for place in places}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        raise ShapeError(f"losses has the shapes {sorted(shapes)}; expected (T,) at each threshold")
    known, slack = np.stack([table[place] for place in places], axis=1), ROUNDING * abs(bound)
    if known.max() > bound + slack:
        raise SettingError(f"losses holds {known.max():g}; expected numbers up to bound, {bound:g}")
    rises = np.argwhere(np.diff(known, axis=1) > slack)
    if len(rises):
        task, step = rises[0]
        low, high = grid[places[step]], grid[places[step + 1]]
        raise SettingError(
            f"losses of task {task} rise from {known[task, step]:g} at the threshold {low:g} to "
            f"{known[task, step + 1]:g} at {high:g}; expected losses that do not rise with the threshold"
        )
