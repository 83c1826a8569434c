r"""How much is gained by choosing a learner for each task, of what could be.

The gap lies between the *single best* learner and the *virtual best*, which takes for each task the learner
that will do best. Where outcomes are noisy the largest of them is too large: of equally
good learners the naive virtual best is better than each. Here it chooses by one half of the queries of each
task and is judged on the other, and the other way round. It so errs to the other side, for it chooses by few
queries: a selector that has learned from many tasks may close more than all of the gap. With the gains $x_t$
of the selector and $y_t$ of the virtual best, the closed gap is $r = \bar x / \bar y$, with the interval of
the mean of $r + (x_t - r y_t) / \bar y$ (the delta method); nothing is known of it where $\bar y$ may be
zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from mltk.checks import check_scale
from mltk.errors import SettingError, ShapeError
from mltk.evaluation.interval import Interval
from mltk.evaluation.result import Evaluation
from mltk.evaluation.sign_flips import sign_flips
from mltk.summary import Lines, Told
from mltk.toolkit.evidence import Evidence


@dataclass(frozen=True, repr=False)
class Gap(Told):
    """What a choice for each task gains, and what it could.

    Attributes:
        metric: What is measured; all of it less the cost.
        single_best: The mean of the single best learner.
        selected: That of the learners that were chosen.
        virtual_best: That of the best for each task, chosen by one half of its queries, judged on the other.
        naive_virtual_best: That of the best for each task, chosen and judged on all of them: too good.
        gain: By how much the chosen are better than the single best, with its interval.
        closed: Which part of the gap between the single and the virtual best that is; NaN where there may be
            none.
        p: The p-value of the sign-flip test of the gains, for these classes.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> halves = rng.uniform(0.6, 0.8, (2, 3, 400))  # three learners between which nothing is to choose
        >>> evidence = mltk.toolkit.Evidence(
        ...     ("a", "b", "c"),
        ...     "accuracy",
        ...     halves.mean(axis=0),
        ...     halves,
        ...     mltk.task_analysis.Measures({}, {}),
        ...     np.zeros(3),
        ... )
        >>> found = mltk.toolkit.gap(evidence, rng.choice(evidence.learners, 400))
        >>> round(found.naive_virtual_best - found.single_best, 3), found.proven
        (0.032, False)
        >>> round(found.virtual_best - found.single_best, 3)
        -0.002
    """

    metric: str
    single_best: float
    selected: float
    virtual_best: float
    naive_virtual_best: float
    gain: Interval
    closed: Interval
    p: float

    @property
    def proven(self) -> bool:
        """Whether it is a gain: the interval lies above zero, and the test finds it, too."""
        return self.gain.low > 0 and self.p <= 1 - self.gain.level

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        lines = [
            ("single best", f"{self.metric} {self.single_best:.4g}"),
            ("selected", f"{self.selected:.4g}"),
            ("virtual best", f"{self.virtual_best:.4g} ({self.naive_virtual_best:.4g} if naive)"),
            ("gain", f"{self.gain}, p over tasks = {self.p:.3g}"),
            ("closed gap", str(self.closed)),
        ]
        return "Gap between the single and the virtual best", lines


def gap(
    evidence: Evidence,
    chosen: np.ndarray,
    *,
    single_best: str | None = None,
    cost: float = 0.0,
    over: str | None = None,
    measured: bool = True,
) -> Gap:
    """Judge which learner was chosen for each task: see `mltk.toolkit.gap`.

    Args:
        evidence: Of the learners on these tasks.
        chosen: The name of the learner for each task, ``(T,)``.
        single_best: What it is compared with; ``None`` for the learner with the best mean here.
        cost: What a second is worth, in units of the metric.
        over: What intervals are over, as for `Evaluation.interval`; ``None`` for classes where these are
            known, and else tasks.
        measured: Whether the seconds of the measures count, too.

    Raises:
        ShapeError: If there is not one name a task.
        SettingError: If a name is none of a learner, or ``over`` is not known of the tasks.
    """
    check_scale("cost", cost)
    names = list(evidence.learners)
    value, halves = (values(evidence, each, cost) for each in (evidence.outcomes, evidence.halves))
    if np.shape(chosen) != value.shape[1:]:
        raise ShapeError(f"chosen has shape {np.shape(chosen)}; expected one name a task, {value.shape[1:]}")
    for name in {*np.asarray(chosen).tolist(), *([] if single_best is None else [single_best])}:
        if name not in names:
            raise SettingError(f"{name!r} is no learner of the evidence; expected one of {', '.join(names)}")
    best = int(np.argmax(value.mean(axis=1))) if single_best is None else names.index(single_best)
    tasks = np.arange(value.shape[1])
    selected = value[[names.index(name) for name in chosen], tasks] - cost * measured * evidence.measuring
    # Of learners that are equal on a half, that with the better mean.
    order = np.argsort(-value.mean(axis=1), kind="stable")
    by_half = order[halves[:, order].argmax(axis=1)]
    virtual = np.mean([halves[1 - half, by_half[half], tasks] for half in (0, 1)], axis=0)
    gain, possible = selected - value[best], virtual - halves[:, best].mean(axis=0)

    def interval(of_tasks: np.ndarray) -> Interval:
        found = Evaluation(evidence.metric, of_tasks, classes=evidence.classes, groups=evidence.groups)
        return found.interval(over or ("classes" if evidence.classes is not None else "tasks"))

    gained, room = interval(gain), interval(possible)
    closed = Interval(
        math.nan, -math.inf, math.inf, room.over, room.level, room.units, "which may leave no gap"
    )
    if room.low > 0:
        part = gained.estimate / room.estimate
        closed = interval(part + (gain - part * possible) / room.estimate)
    sign = 1 if evidence.metric == "accuracy" else -1
    single = float(value[best].mean())
    means = single, float(selected.mean()), single + room.estimate, float(value.max(axis=0).mean())
    found: Any = (*(sign * mean for mean in means), gained, closed, sign_flips(gain).p)
    return Gap(evidence.metric, *found)


def values(evidence: Evidence, outcomes: np.ndarray, cost: float) -> np.ndarray:
    """Outcomes ``(…, L, T)`` of which larger ones are better, less what the seconds of the learners cost."""
    sign = 1 if evidence.metric == "accuracy" else -1
    return np.asarray(sign * outcomes - cost * evidence.seconds[:, None])
