r"""How many tasks a comparison needs, and when no number of tasks is enough.

The mean of $N$ differences, on tasks of $C$ classes, varies by $V = A / C + s^2 / N$: what other classes
would change, and what other tasks of the same classes would (`mltk.evaluation.jackknife`). The two-sided t
test with $\nu$ degrees of freedom finds a difference $\delta$ with the probability

$$P\big(|T_\nu(\delta / \sqrt V)| > t_\nu\big)$$

of the noncentral $t$. Over tasks, $A$ is left out and $\nu = N - 1$: about $(z_{0.975} + z_{0.8})^2 = 7.85$
times $(s/\delta)^2$ tasks for 80 % power at 5 %. Over classes $\nu$ is that of the jackknife, at most
$C - 1$, and however many tasks there are, $V$ does not fall below $A / C$.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mltk.checks import Between, Several, checked, is_number
from mltk.errors import SettingError, ShapeError
from mltk.evaluation import jackknife
from mltk.evaluation.paired import difference
from mltk.evaluation.result import Evaluation
from mltk.evaluation.student import quantile
from mltk.installation import needed_for
from mltk.summary import Lines, Summary

MOST = 10**9
"""Tasks or classes beyond which nobody goes."""

NORMAL = 10**5
"""From so many degrees of freedom on, t is as good as normal."""


@dataclass(frozen=True, repr=False)
class TaskPlan(Summary):
    """What it takes to find a difference.

    Attributes:
        effect: The difference of two means that is to be found.
        power: With which probability.
        level: One less the probability to find one where there is none.
        over: The population: ``"tasks"`` of the same classes, ``"classes"`` or ``"groups"``.
        tasks: The fewest tasks that are enough; ``None`` if no number is.
        units: How many classes or groups the tasks are of; ``None`` over tasks.
        reached: The power with any number of tasks, 1 over tasks.
        units_needed: The fewest classes or groups of which enough tasks are enough; ``None`` over tasks.

    Examples:
        >>> import mltk
        >>> mltk.evaluation.plan(0.005, 0.9, pilot=0.039).tasks
        642
    """

    effect: float
    power: float
    level: float
    over: str
    tasks: int | None
    units: int | None = None
    reached: float = 1.0
    units_needed: int | None = None

    def __str__(self) -> str:
        of = "these classes" if self.units is None else f"{self.units} {self.over}"
        goal = f"a difference of {self.effect:g} with power {self.power:g}"
        if self.tasks is not None:
            return f"{self.tasks} tasks of {of} find {goal}"
        if self.units is None:
            return f"more than {MOST:,} tasks of {of} are needed to find {goal}"
        needed = "more than can be had" if self.units_needed is None else f"at least {self.units_needed}"
        return (
            f"no number of tasks of {of} finds {goal}: all of them together reach {self.reached:.2f}; "
            f"expected {needed} {self.over}"
        )

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        lines = [("test", f"two-sided, at {100 * (1 - self.level):.3g} %, over {self.over}")]
        if self.units is not None:
            lines.append(("unlimited tasks", f"power {self.reached:.2f} with {self.units} {self.over}"))
            lines.append((f"fewest {self.over}", f"{self.units_needed or 'more than can be had'}"))
        return f"Plan: {self}", lines


@checked
def plan(
    effect: float,
    power: Between = 0.8,
    *,
    pilot: Evaluation | tuple[Evaluation, Evaluation] | np.ndarray | float,
    over: Literal["tasks", "classes", "groups"] = "tasks",
    units: Several | None = None,
    level: Between = 0.95,
) -> TaskPlan:
    """How many tasks find a difference of two learners on the same tasks, by what a pilot has found.

    What the pilot estimates is taken as the truth: one of few tasks, or of few classes, may be far off.

    Args:
        effect: The difference to find, as a fraction for accuracies: 0.01 is a point.
        power: With which probability.
        pilot: Evaluations of both on the same tasks, or one whose values are the differences; the differences
            ``(N,)`` alone; or their standard deviation.
        over: ``"tasks"`` of the same classes; or, where the pilot knows them, ``"classes"`` or ``"groups"``.
        units: Of how many classes or groups the tasks will be; ``None`` for as many as in the pilot.
        level: One less the probability to find a difference where there is none.

    Raises:
        SettingError: If a setting is not valid, or the pilot does not know the classes or groups.
        ShapeError: If the differences are not ``(N,)`` of at least two tasks, or the evaluations not of the
            same tasks.

    Examples:
        >>> import mltk
        >>> print(mltk.evaluation.plan(0.01, pilot=0.039))
        122 tasks of these classes find a difference of 0.01 with power 0.8
    """
    if not is_number(effect) or effect == 0:
        raise SettingError(f"effect is {effect!r}; expected a number that is not 0")
    if units is not None and over == "tasks":
        raise SettingError(f"units is {units}, of which there are none over tasks; expected None")
    deviation, differences = _differences(pilot)

    def found(variance: float, freedom: float) -> float:
        return _power(abs(effect), variance, max(1, int(freedom)), level)

    if over == "tasks":
        tasks = _fewest(lambda n: found(deviation**2 / n, n - 1), power)
        return TaskPlan(effect, power, level, over, tasks)
    numbers = None if differences is None else getattr(differences, over)
    if differences is None or numbers is None:
        raise SettingError(f"over is {over!r}, but the pilot does not say which {over} its tasks are of")
    of = jackknife.units(numbers)
    variance, freedom = (float(each) for each in jackknife.variance(differences.values, of))
    if not math.isfinite(variance):
        raise SettingError(
            f"over is {over!r}, but the pilot tells nothing of other {over}: it has one, or one in each task"
        )
    sampling = deviation**2 / of.n_tasks
    between = max(variance - sampling, 0.0)
    # What the jackknife counts before its correction, and so what its degrees of freedom fall by.
    chance = max(variance * (of.n_units - 1) / freedom - between, sampling)

    def with_tasks(tasks: float, units: int) -> float:
        own, more = between * of.n_units / units, of.n_tasks / tasks
        total = own + sampling * more
        share = total / (own + chance * more) if total else 1.0
        return found(total, share * (units - 1))

    units = units or of.n_units
    tasks, most = _fewest(lambda n: with_tasks(n, units), power), with_tasks(math.inf, units)
    needed = _fewest(lambda n: with_tasks(math.inf, n), power)
    return TaskPlan(effect, power, level, over, tasks, units, most, needed)


def _differences(pilot: Any) -> tuple[float, Evaluation | None]:
    """The standard deviation of a difference on a task, and the evaluation of them, if there is one."""
    if is_number(pilot):
        if pilot <= 0:
            raise SettingError(f"pilot is {pilot!r}; expected a positive standard deviation")
        return float(pilot), None
    if isinstance(pilot, tuple | list) and len(pilot) == 2 and isinstance(pilot[0], Evaluation):
        pilot = difference(*pilot)
    if not isinstance(pilot, Evaluation):
        try:
            pilot = Evaluation("difference", np.asarray(pilot, dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise SettingError(
                f"pilot is {pilot!r}; expected two evaluations, differences or their standard deviation"
            ) from error
    values = pilot.values
    if values.size < 2 or not np.isfinite(values).all():
        raise ShapeError(f"pilot has shape {values.shape}; expected finite differences (N,) of at least 2")
    return float(values.std(ddof=1)), pilot


def _power(effect: float, variance: float, freedom: int, level: float) -> float:
    """With which probability the two-sided t test finds an effect."""
    if variance == 0:
        return 1.0
    with needed_for("planning"):
        from scipy.special import nctdtr, ndtr
    critical, shift = quantile(freedom, level), effect / math.sqrt(variance)
    if freedom > NORMAL:
        return float(ndtr(shift - critical) + ndtr(-shift - critical))
    # Where the series end, nothing is left of what is missed, nor of differences with the wrong sign.
    missed, wrong = np.nan_to_num([nctdtr(freedom, shift, each) for each in (critical, -critical)])
    return float(1 - missed + wrong)


def _fewest(power_with: Callable[[int], float], power: float) -> int | None:
    """The fewest, at least 2, that have the power; ``None`` if none has."""
    high = 2
    while power_with(high) < power:
        high *= 2
        if high > MOST:
            return None
    between = range(max(1, high // 2) + 1, high)
    return between.start + bisect_left(between, power, key=power_with)
