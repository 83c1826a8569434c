"""Two learners, or many, on the same tasks: the paired difference, and whether it can be chance."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from mltk.errors import SettingError, ShapeError
from mltk.evaluation.interval import Interval, decimals
from mltk.evaluation.result import Evaluation
from mltk.evaluation.sign_flips import sign_flips
from mltk.installation import needed_for
from mltk.summary import Lines, Told


@dataclass(frozen=True, repr=False)
class Comparison(Told):
    """What is known of the difference of two learners that met the same tasks.

    Attributes:
        names: Of both; the second is taken away from the first.
        metric: What was compared.
        difference: The mean difference and its interval.
        wins: On how many tasks the first has the larger value.
        ties: On how many both have the same.
        losses: On how many the second has the larger.
        wilcoxon: The p-value of the signed-rank test, two-sided, with zeros ranked and then left out (Pratt
            1959); of few tasks without zeros and ties it is exact, otherwise normal.
        sign_flip: The p-value of the permutation test: see `mltk.evaluation.sign_flips`.
        exact: Whether that was counted; otherwise it is sampled.
        holm: ``sign_flip`` after Holm's correction for all comparisons that were made with this one.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> hard, noise = rng.normal(0.6, 0.1, 40), rng.normal(0, 0.02, 40)
        >>> a = mltk.evaluation.Evaluation("accuracy", hard + 0.02 + noise)
        >>> b = mltk.evaluation.Evaluation("accuracy", hard)
        >>> print(mltk.evaluation.compare(a, b, names=("new", "old")).difference)
        0.0260 [0.0190, 0.0330] (95 % interval over 40 tasks)
    """

    names: tuple[str, str]
    metric: str
    difference: Interval
    wins: int
    ties: int
    losses: int
    wilcoxon: float
    sign_flip: float
    exact: bool
    holm: float

    def __str__(self) -> str:
        found = self.difference
        digits = decimals(found.half_width)
        estimate, low, high = (f"{each:+.{digits}f}" for each in (found.estimate, found.low, found.high))
        corrected = "" if self.holm == self.sign_flip else f" (Holm {self.holm:.3g})"
        return (
            f"{self.names[0]} − {self.names[1]}: {self.metric} {estimate} [{low}, {high}] "
            f"over {found.population}; "
            f"p over tasks = {self.sign_flip:.3g}{corrected}"
        )

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        counted = "exact" if self.exact else "sampled"
        lines = [
            ("tasks", f"{self.wins} larger, {self.ties} equal, {self.losses} smaller"),
            ("sign flips", f"p = {self.sign_flip:.4g} ({counted}), {self.holm:.4g} after Holm"),
            ("Wilcoxon", f"p = {self.wilcoxon:.4g}"),
        ]
        return f"Comparison: {self}", lines


def difference(x: Evaluation, y: Evaluation) -> Evaluation:
    """The differences of two evaluations on the same tasks, task by task.

    Raises:
        ShapeError: If they are not of the same tasks, by what is known of them.
        SettingError: If they are of different metrics.
    """
    for name, value in (("x", x), ("y", y)):
        if not isinstance(value, Evaluation):
            raise SettingError(f"{name} is {type(value).__name__}; expected what mltk.evaluate returns")
    if x.metric != y.metric:
        raise SettingError(f"the metrics are {x.metric} and {y.metric}; expected the same one")
    told = ((x.classes, y.classes), (x.groups, y.groups))
    same = all(one is other or np.array_equal(np.asarray(one), np.asarray(other)) for one, other in told)
    if x.values.shape != y.values.shape or not same:
        raise ShapeError(
            f"evaluations of {x.values.size} and {y.values.size} tasks are not of the same ones; "
            "expected the same tasks, episodes and seed"
        )
    by_run = None
    if x.by_run is not None and y.by_run is not None:
        if len(x.by_run) != len(y.by_run):
            raise ShapeError(
                f"evaluations of {len(x.by_run)} and {len(y.by_run)} runs are not paired; "
                "expected as many, in the order of their seeds"
            )
        by_run = x.by_run - y.by_run
    return Evaluation(x.metric, x.values - y.values, classes=x.classes, groups=x.groups, by_run=by_run)


def compare(
    x: Evaluation, y: Evaluation, *, over: str = "tasks", names: tuple[str, str] = ("x", "y")
) -> Comparison:
    """The paired comparison of two learners.

    The interval is for what it is over; both tests are about tasks of these classes.

    Args:
        x: What one learner reached.
        y: What another reached on the same tasks.
        over: As for `Evaluation.interval`.
        names: What they are called.

    Raises:
        ShapeError: If they are not of the same tasks.
        SettingError: If they are of different metrics, or there is nothing known of what to be over.
        MissingLibraryError: If SciPy is not installed.
    """
    apart = difference(x, y)
    values = apart.values
    with needed_for("comparing"):
        from scipy.stats import wilcoxon
    flips = sign_flips(values)
    wins, ties, losses = (int(np.count_nonzero(each)) for each in (values > 0, values == 0, values < 0))
    ranked = float(wilcoxon(_with_ties(values), zero_method="pratt").pvalue) if values.any() else 1.0
    tested: Any = {"wilcoxon": ranked, "sign_flip": flips.p, "exact": flips.exact, "holm": flips.p}
    return Comparison(names, x.metric, apart.interval(over), wins, ties, losses, **tested)


def _with_ties(differences: np.ndarray) -> np.ndarray:
    """Differences of which those are equal that rounding alone keeps apart: 0.8 − 0.6 is not 0.6 − 0.4."""
    return np.asarray(np.round(differences / np.abs(differences).max(), 10))


def compare_all(
    evaluations: Mapping[str, Evaluation],
    *,
    over: str = "tasks",
    pairs: Iterable[tuple[str, str]] | None = None,
) -> list[Comparison]:
    """Pairs of learners, with Holm's correction for as many comparisons.

    Args:
        evaluations: Of each learner on the same tasks, under its name.
        over: As for `Evaluation.interval`.
        pairs: Names of those that are compared; ``None`` for all pairs.

    Raises:
        MltkError: As `compare`.
    """
    found = [
        compare(evaluations[one], evaluations[other], over=over, names=(one, other))
        for one, other in pairs or combinations(evaluations, 2)
    ]
    adjusted = holm(np.asarray([each.sign_flip for each in found]))
    return [Comparison(**{**vars(each), "holm": float(p)}) for each, p in zip(found, adjusted, strict=True)]


def holm(p: np.ndarray) -> np.ndarray:
    r"""P-values that may be compared with one level for all: Holm's step-down (1979).

    The $i$-th smallest of $m$ becomes the largest of $(m - j + 1)\, p_{(j)}$ for $j \le i$, at most 1.

    Args:
        p: ``(m,)``, from 0 to 1.
    """
    order = np.argsort(p, kind="stable")
    stepped = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
    adjusted = np.empty_like(stepped)
    adjusted[order] = stepped
    return adjusted
