"""What an evaluation has found: a metric of each task, and what its mean is good for."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np

from mltk.checks import check_choice
from mltk.errors import SettingError, ShapeError
from mltk.evaluation import crossed, jackknife
from mltk.evaluation.interval import Interval, decimals, from_variances
from mltk.summary import Lines, Summary

OVER = ("tasks", "classes", "groups", "seeds")


@dataclass(frozen=True, repr=False)
class Evaluation(Summary):
    """A metric over unseen tasks.

    Attributes:
        metric: ``"accuracy"`` (a fraction), ``"mse"``, the mean squared error, or ``"return"``.
        values: The metric of each task, ``(episodes,)`` in float64; of several runs, its mean over them.
        transductive: Whether the prediction for a query was found to depend on the other queries of its task;
            ``None`` if that could not be found out.
        classes: The classes of each task, integers ``(episodes, ways)``, with -1 where a task has fewer;
            turned images are of one class; ``None`` if they are not known.
        groups: Their groups, likewise.
        by_run: The metric of each task for each of several runs, ``(runs, episodes)``; ``None`` for one.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> found = mltk.evaluation.Evaluation("accuracy", np.asarray([0.7, 0.8, 0.9, 0.8]))
        >>> print(found)
        accuracy 0.80 ± 0.13 (95 % interval over 4 tasks)
        >>> print(found.interval("tasks", level=0.9))
        0.800 [0.704, 0.896] (90 % interval over 4 tasks)
    """

    metric: str
    values: np.ndarray
    transductive: bool | None = False
    _: KW_ONLY
    classes: np.ndarray | None = None
    groups: np.ndarray | None = None
    by_run: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("values", "classes", "groups", "by_run"):
            if not isinstance(array := getattr(self, name), np.ndarray | None):
                raise SettingError(f"{name} is {type(array).__name__}; expected a NumPy array")
        if self.values.ndim != 1 or not self.values.size:
            raise ShapeError(f"values has shape {self.values.shape}; expected (episodes,), at least one")
        for name, array in (("classes", self.classes), ("groups", self.groups)):
            if array is not None and (array.ndim != 2 or len(array) != self.values.size):
                raise ShapeError(f"{name} has shape {array.shape}; expected ({self.values.size}, ways)")
        if self.by_run is not None and (self.by_run.ndim != 2 or self.by_run.shape[1:] != self.values.shape):
            raise ShapeError(f"by_run has shape {self.by_run.shape}; expected (runs, {self.values.size})")

    @property
    def mean(self) -> float:
        """The mean over the tasks, and over the runs if there are several."""
        return float(np.mean(self.values))

    @property
    def known(self) -> tuple[str, ...]:
        """What `interval` may be over here: always ``"tasks"``."""
        there = (self.values, self.classes, self.groups, self.by_run)
        return tuple(over for over, array in zip(OVER, there, strict=True) if array is not None)

    def interval(self, over: str = "tasks", *, level: float = 0.95) -> Interval:
        """The confidence interval of the mean, for what would be drawn anew.

        Over tasks it is Student's, and tells how well these classes were sampled: nothing of other classes.
        Over classes or groups it is by the jackknife (`mltk.evaluation.jackknife`). Over seeds, trainings and
        classes are drawn anew, or tasks where nothing is known of classes (`mltk.evaluation.crossed`).

        Args:
            over: ``"tasks"``, ``"classes"``, ``"groups"``, or, of several runs, ``"seeds"``.
            level: How often such intervals hold what is estimated.

        Returns:
            An infinite interval where nothing can be said, as for a single task, or for other classes where
            each task has all of them.

        Raises:
            SettingError: If the level is not between 0 and 1, ``over`` is none of these, or there are no
                classes, groups or runs to draw anew.
        """
        check_choice("over", over, OVER)
        if over == "seeds":
            return self._over_seeds(level)
        tasks = self.values.size
        if over == "tasks":
            variance = np.var(self.values, ddof=1) / tasks if tasks > 1 else np.inf
            return from_variances(self.mean, [(float(variance), tasks - 1)], over, level, tasks)
        numbers = self.classes if over == "classes" else self.groups
        if numbers is None:
            raise SettingError(
                f"over is {over!r}, but the tasks do not say which {over} they are of; expected 'tasks', "
                f"or a source whose episodes have {over}"
            )
        of = jackknife.units(numbers)
        variance, freedom = jackknife.variance(self.values, of)
        parts = [(float(variance), float(freedom))]
        return from_variances(self.mean, parts, over, level, of.n_units, of.unknown)

    def _over_seeds(self, level: float) -> Interval:
        if self.by_run is None or len(self.by_run) < 2:
            raise SettingError(
                "over is 'seeds', but one run was evaluated; expected several: "
                "mltk.evaluate(learner, [run.meta_params for run in runs], tasks, episodes=…)"
            )
        of = None if self.classes is None else jackknife.units(self.classes)
        over = "seeds" if of is None else "seeds and classes"
        unknown = "" if self.values.size > 1 else "but of one task, which says nothing of others"
        if of is not None and of.unknown:
            unknown = f"with {of.n_units} classes, {of.unknown}"
        return from_variances(self.mean, crossed.variances(self.by_run, of), over, level, None, unknown)

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        low, middle, high = np.quantile(self.values, [0, 0.5, 1])
        quantiles = f"lowest {low:.3g}, median {middle:.3g}, highest {high:.3g}"
        found = {True: "yes", False: "no", None: "unknown"}[self.transductive]
        others = [(f"over {over}", str(self.interval(over))) for over in self.known[1:]]
        return f"Evaluation: {self}", [("tasks", quantiles), ("transductive", found), *others]

    def in_words(self) -> str:
        """The mean and half the width of its interval over tasks: ``"0.75 ± 0.12"``."""
        half = self.interval().half_width
        digits = decimals(half)
        return f"{self.mean:.{digits}f} ± {half:.{digits}f}"

    def __str__(self) -> str:
        transductive = {True: ", transductive", False: "", None: ", transductive or not: unknown"}
        return (
            f"{self.metric} {self.in_words()} "
            f"(95 % interval over {self.interval().population}{transductive[self.transductive]})"
        )
