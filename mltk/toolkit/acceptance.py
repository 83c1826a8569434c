r"""Which tasks to accept, so that few of those fail: a rule with a stated risk.

Let $R(\lambda) = P(\text{failure} \mid \text{risk} \le \lambda)$ be the risk among the tasks that are
accepted at the threshold $\lambda$. It is a ratio, and need not rise with $\lambda$, so that conformal risk
control (`mltk.evaluation.risk_control`), which holds for losses that do, speaks of something else: of the
tasks that are accepted *and* fail, a part of all tasks. Learn-then-test (Angelopoulos, Bates, Candès, Jordan
& Lei 2025, section 3) speaks of $R$ itself. Of $n$ calibration tasks that would be accepted at a threshold
that was chosen without a look at their outcomes, $k$ fail, and

$$p = P(\mathrm{Bin}(n, \alpha) \le k)$$

is a p-value of the hypothesis $R(\lambda) > \alpha$. The thresholds are tested one after the other, each at
the level $\delta$, until one is not rejected (fixed-sequence testing); the loosest of those rejected is the
rule. The first hypothesis that is true is rejected with probability at most $\delta$, hence

$$P\big(R(\hat\lambda) \le \alpha\big) \ge 1 - \delta$$

over the draw of the calibration tasks: with probability $1 - \delta$ the rule that comes out is one by which
at most the part $\alpha$ of the accepted tasks fails. Where none is rejected, nothing is accepted, which
keeps the promise. That is so for any thresholds and any order that were chosen by other tasks. Here they are
quantiles of the risks that were foreseen of the tasks the predictor was fitted on, of which a part $c$ is up
to $\lambda$ and has the mean $\hat R$, and first comes where $(\alpha - \hat R) \sqrt c$ is largest: where
most is to be expected of the test. The promise is about new tasks of the source that the calibration tasks
were drawn from, each by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mltk.checks import Between, checked
from mltk.summary import Lines, Told
from mltk.task_analysis.measures import Measures

COVERAGES = 40
"""How many thresholds there are at most."""


class Risky(Protocol):
    """What foresees the risk of tasks."""

    def risk(self, known: Measures) -> np.ndarray:
        """From 0 to 1, ``(T,)``."""


@dataclass(frozen=True, repr=False)
class AcceptanceRule(Told):
    """Tasks are accepted up to some risk: see `mltk.toolkit.acceptance`.

    Attributes:
        alpha: The largest part of the accepted tasks that fails.
        delta: How probable it is at most that the rule does not keep that.
        threshold: The largest risk that is accepted; minus infinity if nothing is.
        tasks: Calibration tasks.
        accepted: How many of them the rule accepts.
        failures: How many of these fail.
        predictor: What foresees the risk.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> from mltk.task_analysis import Measures
        >>> rng = np.random.default_rng(0)
        >>> def drawn(tasks):  # the surer, the better
        ...     sure = rng.uniform(size=tasks)
        ...     known = Measures({"confidence": sure}, {"confidence": "query inputs"})
        ...     return known, rng.binomial(20, sure) / 20
        >>> fitted = mltk.toolkit.FailurePredictor(0.5).fit(*drawn(500))
        >>> rule = fitted.control(*drawn(500), alpha=0.1)
        >>> known, accuracies = drawn(1000)
        >>> accepted = rule.accept(known)
        >>> bool(accepted.mean() > 0.4), bool((accuracies[accepted] < 0.5).mean() < 0.1)
        (True, True)
    """

    tells = ("alpha", "delta", "threshold", "tasks", "accepted", "failures")
    alpha: float
    delta: float
    threshold: float
    tasks: int
    accepted: int
    failures: int
    predictor: Risky

    def accept(self, known: Measures) -> np.ndarray:
        """Whether each task is accepted, booleans ``(T,)``."""
        return np.asarray(self.predictor.risk(known) <= self.threshold)

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        title = f"Acceptance, calibrated on {self.tasks:,} tasks"
        if math.isinf(self.threshold):
            return title, [
                ("accepted", f"none: no threshold is shown to keep the failures below {self.alpha:g}")
            ]
        return title, [
            ("failures", f"at most {self.alpha:g} of the accepted, with probability {1 - self.delta:g}"),
            ("accepted", f"risks up to {self.threshold:.4g}"),
            ("of these tasks", f"{self.accepted:,} accepted, of which {self.failures:,} fail"),
        ]


@checked
def acceptance(
    predictor: Risky,
    known: Measures,
    failed: np.ndarray,
    *,
    foreseen: np.ndarray,
    alpha: Between,
    delta: Between,
) -> AcceptanceRule:
    """The loosest rule that tests as safe.

    Args:
        predictor: What foresees the risk.
        known: What is known of the calibration tasks.
        failed: Whether each of them failed, booleans ``(T,)``.
        foreseen: Risks of other tasks, ``(n,)``.
        alpha: The largest part of the accepted tasks that may fail.
        delta: How probable it may be that more do.

    Raises:
        SettingError: If ``alpha`` or ``delta`` is not between 0 and 1.
    """
    risks, thresholds = predictor.risk(known), in_order(foreseen, alpha)
    allowed = risks <= thresholds[:, None]
    accepted, failures = allowed.sum(axis=1), (allowed & failed).sum(axis=1)
    safe = np.flatnonzero(passed(accepted, failures, alpha, delta))
    if not safe.size:
        return AcceptanceRule(alpha, delta, -math.inf, risks.size, 0, 0, predictor)
    best = safe[thresholds[safe].argmax()]
    counts = int(accepted[best]), int(failures[best])
    return AcceptanceRule(alpha, delta, float(thresholds[best]), risks.size, *counts, predictor)


def in_order(foreseen: np.ndarray, alpha: float) -> np.ndarray:
    """The thresholds in the order in which they are tested.

    Args:
        foreseen: Risks of tasks, ``(n,)``.
        alpha: The risk.
    """
    levels = np.unique(np.quantile(foreseen, np.arange(1, COVERAGES) / COVERAGES))
    thresholds = np.append(levels[levels < 1], 1.0)
    up_to = foreseen <= thresholds[:, None]
    part = up_to.mean(axis=1)
    mean = (up_to * foreseen).mean(axis=1) / part
    return np.asarray(thresholds[np.argsort((mean - alpha) * np.sqrt(part), kind="stable")])


def passed(accepted: np.ndarray, failures: np.ndarray, alpha: float, delta: float) -> np.ndarray:
    """Whether each of some thresholds is shown to have a risk of at most ``alpha``, as are all before it.

    Args:
        accepted: How many tasks each accepts, ``(…, thresholds)``.
        failures: How many of these fail.
        alpha: The risk.
        delta: The level of each test.
    """
    from scipy.stats import binom

    return np.asarray(np.logical_and.accumulate(binom.cdf(failures, accepted, alpha) <= delta, axis=-1))
