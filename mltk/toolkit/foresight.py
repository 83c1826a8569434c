r"""How well failures were foreseen, on tasks whose outcomes are known, with intervals over classes.

An area or a correlation is no mean over tasks, but nearly one of influences: with the mean
$\hat\theta + \frac1T \sum_t \psi_t$ of $\hat\theta + \psi_t$ it is what the intervals of evaluations are
for, over tasks, classes or groups (`mltk.evaluation.Evaluation.interval`). With $\pi$ the part of the tasks
that fail, $V_t$ the part of the tasks of the other outcome that the risk of $t$ is on the right side of, a
tie being a half, and standardised $x$ and $y$ of the correlation $r$,

$$\psi_t^\text{AUROC} = \frac{V_t - \text{AUROC}}{\pi} \text{ or } \frac{V_t - \text{AUROC}}{1 - \pi}, \qquad
  \psi_t^r = x_t y_t - \tfrac r2 (x_t^2 + y_t^2):$$

the placements of DeLong, DeLong & Clarke-Pearson (1988), and the influence of Devlin, Gnanadesikan &
Kettenring (1975). Two correlations with the same outcomes differ by influences that differ, task by task:
their difference is paired. The interval of an area is that of its log-odds, whose influences are
$\psi_t / (\text{AUROC} (1 - \text{AUROC}))$, so that it ends within 0 and 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mltk.evaluation.interval import Interval
from mltk.evaluation.result import Evaluation
from mltk.evaluation.selective import Selective, selective
from mltk.summary import Lines, Told


@dataclass(frozen=True)
class Identities:
    """Of which classes and groups tasks are, integers ``(T, ways)`` each; ``None`` if unknown."""

    classes: np.ndarray | None = None
    groups: np.ndarray | None = None

    def interval(self, estimate: float, influences: np.ndarray, over: str | None = None) -> Interval:
        """That of an estimate with these influences of tasks; over classes if those are known."""
        kept = Evaluation("", estimate + influences, None, classes=self.classes, groups=self.groups)
        return kept.interval(over or ("tasks" if self.classes is None else "classes"))


@dataclass(frozen=True, repr=False)
class Foresight(Told):
    """How well failures and outcomes were foreseen.

    Attributes:
        metric: ``"accuracy"`` or ``"mse"``.
        threshold: What a failure is worse than.
        tasks: How many tasks.
        failures: How many of them failed.
        mean_risk: The mean of the risks, which is the part that fails if they are calibrated.
        brier: The mean squared difference of risk and failure.
        auroc: How often a task that failed had a larger risk than one that did not; NaN where all tasks did
            the same.
        selective: What the risk is worth for withholding tasks: AURC, AUGRC, and failures by coverage.
        correlation: That of expected and actual outcomes.
        beside: What that is compared with, a measure; empty if with nothing.
        correlation_beside: The correlation of that measure's values with the outcomes.
        gain: The paired difference of the two.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> from mltk.task_analysis import Measures
        >>> rng = np.random.default_rng(0)
        >>> sure = rng.uniform(size=400)
        >>> known = Measures({"confidence": sure}, {"confidence": "query inputs"})
        >>> accuracies = rng.binomial(20, sure) / 20
        >>> fitted = mltk.toolkit.FailurePredictor(0.5).fit(known.take(slice(200)), accuracies[:200])
        >>> found = fitted.judge(known.take(slice(200, 400)), accuracies[200:])
        >>> found.tasks, bool(found.auroc.low > 0.9), bool(found.brier < found.brier_of_the_rate / 2)
        (200, True, True)
    """

    metric: str
    threshold: float
    tasks: int
    failures: int
    mean_risk: float
    brier: float
    auroc: Interval
    selective: Selective
    correlation: Interval
    beside: str = ""
    correlation_beside: Interval | None = None
    gain: Interval | None = None

    @property
    def brier_of_the_rate(self) -> float:
        """The Brier score of the part that failed as everybody's risk."""
        rate = self.failures / self.tasks
        return rate * (1 - rate)

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        worse = "below" if self.metric == "accuracy" else "above"
        rate = self.failures / self.tasks
        lines = [
            ("failures", f"{self.failures:,}, {rate:.3f} of all; mean risk {self.mean_risk:.3f}"),
            ("Brier score", f"{self.brier:.4f}; {self.brier_of_the_rate:.4f} by that part for all"),
            ("AUROC", str(self.auroc)),
            ("AURC", f"{self.selective.aurc:.4f}; random order: {rate:.4f}"),
            ("AUGRC", f"{self.selective.augrc:.4f}"),
            (f"expected {self.metric}", f"correlation {self.correlation}"),
        ]
        if self.beside:
            lines.append((self.beside, f"correlation {self.correlation_beside}"))
            lines.append(("gain", str(self.gain)))
        return f"Failures foreseen of {self.tasks:,} tasks: {self.metric} {worse} {self.threshold:g}", lines


def foresight(
    metric: str,
    threshold: float,
    outcomes: np.ndarray,
    *,
    risks: np.ndarray,
    expected: np.ndarray,
    of: Identities,
    beside: tuple[str, np.ndarray] | None = None,
) -> Foresight:
    """Judge what was foreseen of some tasks.

    Args:
        metric: ``"accuracy"`` or ``"mse"``.
        threshold: What a failure is worse than.
        outcomes: The metric of each task, ``(T,)``.
        risks: The risk that was foreseen of each.
        expected: The outcome that was expected of each.
        of: Their classes and groups.
        beside: The name of a measure, and its values, whose correlation with the outcomes is beside.
    """
    failed = failures(metric, threshold, outcomes)
    area, placed = auroc(risks, failed)
    r, influences = correlation(expected, outcomes)
    counted = outcomes.size, int(failed.sum()), float(risks.mean()), float(np.mean((risks - failed) ** 2))
    of_r = _interval(of, r, influences, "because all are the same")
    found = Foresight(
        metric, threshold, *counted, _of_area(of, area, placed), selective(-risks, failed), of_r
    )
    if beside is None:
        return found
    name, values = beside
    other, others = correlation(values, outcomes)
    reason = "because all are the same"
    both = _interval(of, other, others, reason), _interval(of, r - other, influences - others, reason)
    return Foresight(**{**vars(found), "beside": name, "correlation_beside": both[0], "gain": both[1]})


def failures(metric: str, threshold: float, outcomes: np.ndarray) -> np.ndarray:
    """Whether each outcome is worse than the threshold, ``(T,)``."""
    return np.asarray(outcomes < threshold if metric == "accuracy" else outcomes > threshold)


def auroc(risks: np.ndarray, failed: np.ndarray) -> tuple[float, np.ndarray]:
    """The area under the curve of the risk, and the influence of each task; NaN if all did the same."""
    rate = failed.mean()
    if rate in (0, 1):
        return math.nan, np.full(risks.shape, math.nan)
    good, bad = np.sort(risks[~failed]), np.sort(risks[failed])
    placed = np.where(failed, _below(good, risks), 1 - _below(bad, risks))
    area = float(placed[failed].mean())
    return area, (placed - area) / np.where(failed, rate, 1 - rate)


def correlation(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Pearson's correlation, and the influence of each task; NaN if one of them is the same for all."""
    if min(np.ptp(x), np.ptp(y)) == 0 or not np.isfinite(x).all():
        return math.nan, np.full(x.shape, math.nan)
    x, y = ((each - each.mean()) / each.std() for each in (x, y))
    r = float(np.mean(x * y))
    return r, x * y - r / 2 * (x * x + y * y)


def _below(others: np.ndarray, risks: np.ndarray) -> np.ndarray:
    """What part of other risks, which are sorted, each is above; a tie is a half."""
    ends = (np.searchsorted(others, risks, side) for side in ("left", "right"))
    return np.asarray(sum(ends) / (2 * others.size))


def _of_area(of: Identities, area: float, influences: np.ndarray) -> Interval:
    """The interval of an area, by that of its log-odds; of 0 and 1 these are infinite."""
    if not 0 < area < 1:
        return _interval(of, area, influences, "because all tasks did the same")
    slope = area * (1 - area)
    found = of.interval(math.log(area / (1 - area)), influences / slope)
    if math.isinf(found.half_width):  # nothing is known
        return replace(found, estimate=area)
    low, high = ((1 + math.tanh(end / 2)) / 2 for end in (found.low, found.high))
    return replace(found, estimate=area, low=low, high=high)


def _interval(of: Identities, estimate: float, influences: np.ndarray, reason: str) -> Interval:
    if math.isnan(estimate):
        return Interval(estimate, -math.inf, math.inf, "tasks", units=influences.size, reason=reason)
    return of.interval(estimate, influences)
