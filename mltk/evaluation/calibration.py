r"""Whether predicted probabilities mean what they say.

For probabilities $p_i$ of the classes of query $i$ and its one-hot label $y_i$, averaged over $n$ queries,
the negative log-likelihood, $-\log p_{i, y_i}$, and the Brier score, $\|p_i - y_i\|^2$ (Brier 1950), are
proper: nobody gets a better value on average by saying other probabilities than the true ones.

**Parts of the Brier score** (Murphy 1973). The classes of a task have no order of their own, so those of each
query are put in the order of its probabilities, the most probable first, which changes no score. In the bins
$b$ of `mltk.evaluation.reliability`, with means $\bar p_b$ and $\bar y_b$ there and $\bar y$ over all,

$$\text{Brier} = \underbrace{\sum_b \tfrac{n_b}n \|\bar p_b - \bar y_b\|^2}_{\text{calibration}}
  - \underbrace{\sum_b \tfrac{n_b}n \|\bar y_b - \bar y\|^2}_{\text{resolution}}
  + \underbrace{1 - \|\bar y\|^2}_{\text{uncertainty}}
  + \underbrace{\tfrac1n \sum_b \sum_{i \in b} \big(\|p_i - \bar p_b\|^2
  - 2 \langle p_i - \bar p_b, y_i - \bar y_b \rangle\big)}_{\text{within bins}}$$

exactly. Where all predictions of a bin are alike the last part, of Stephenson, Coelho & Jolliffe (2008), is
zero, and the rest is Murphy's. $\|\bar y_b\|^2$ of few predictions is too large on average: calibration and
resolution both are, by the same.

Intervals are over tasks, since queries of one task stand or fall together: by Student's t of the tasks'
means, and for the ECE, which is no mean, by leaving out one task at a time (bins stay). Close to calibration
the ECE is as good as never below its value under calibration, and no interval heals that: compare the two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from mltk.checks import check_count
from mltk.evaluation.interval import Interval, over_tasks
from mltk.evaluation.probabilities import judged, of_labels
from mltk.evaluation.reliability import (
    BINS,
    Reliability,
    bins_by_confidence,
    confidence_and_right,
    reliability,
)
from mltk.evaluation.student import quantile
from mltk.plain import plain
from mltk.summary import Lines, Summary
from mltk.tree import Array


class BrierParts(NamedTuple):
    """What a Brier score is the sum of, with the sign of ``resolution`` turned."""

    calibration: float
    resolution: float
    uncertainty: float
    within: float


@dataclass(frozen=True, repr=False)
class Calibration(Summary):
    """How well predicted probabilities describe what happens.

    Attributes:
        accuracy: The part of the predictions that is right.
        confidence: The mean probability of the most probable class.
        nll: The negative log-likelihood a query; infinite if a right class had probability zero.
        brier: The Brier score, from 0 to 2.
        brier_parts: What it is made of.
        ece: The expected calibration error.
        bins: The predictions by their confidence, with ``calibrated_ece`` and the ``squared_error``.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> sure, labels = np.tile([[0.9, 0.1]], (3, 4, 1)), [[0, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
        >>> found = mltk.evaluation.calibration(sure, np.asarray(labels))
        >>> round(found.ece.estimate, 3), round(found.brier.estimate, 3)
        (0.067, 0.287)
    """

    accuracy: Interval
    confidence: Interval
    nll: Interval
    brier: Interval
    brier_parts: BrierParts
    ece: Interval
    bins: Reliability

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        gap = self.confidence.estimate - self.accuracy.estimate
        word = "over" if gap > 0 else "under"
        parts = self.brier_parts
        lines = [
            ("accuracy", str(self.accuracy)),
            ("confidence", f"{self.confidence}: {word}confident by {abs(gap):.3f}"),
            ("ECE", f"{self.ece}; calibrated predictions would have {self.bins.calibrated_ece:.4f}"),
            ("squared error", f"{self.bins.squared_error:.6f} (debiased: 0 on average if calibrated)"),
            ("Brier score", str(self.brier)),
            (
                "  its parts",
                f"calibration {parts.calibration:.4f} − resolution {parts.resolution:.4f} "
                f"+ uncertainty {parts.uncertainty:.4f} + within bins {parts.within:.4f}",
            ),
            ("NLL", str(self.nll)),
        ]
        return f"Calibration of {self.bins.counts.sum():,} predictions in {self.bins.counts.size} bins", lines

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and dicts; ``None`` for what is infinite, as JSON takes it."""
        return dict(plain(self)) | {"squared_error": self.bins.squared_error}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Calibration:
        """What `to_dict` gave; ``None`` stands for what is infinite.

        Raises:
            KeyError, TypeError, ValueError: If it is something else.
        """
        intervals = {}
        for name in ("accuracy", "confidence", "nll", "brier", "ece"):
            each = dict(told[name])
            ends = {"estimate": math.inf, "low": -math.inf, "high": math.inf}
            each |= {end: float(limit if each[end] is None else each[end]) for end, limit in ends.items()}
            intervals[name] = Interval(**each)
        *arrays, ece = (told["bins"][name] for name in Reliability._fields)
        if len({len(each) for each in arrays}) > 1:
            raise ValueError("bins differ in their lengths")
        counts, confidence, right, low, high = map(np.asarray, arrays)
        bins = Reliability(counts, confidence, right, low, high, float(ece))
        parts = BrierParts(**{name: float(each) for name, each in told["brier_parts"].items()})
        return cls(**intervals, brier_parts=parts, bins=bins)


def calibration(probabilities: Array, labels: Array, *, bins: int = BINS) -> Calibration:
    """Judge predicted probabilities: see `mltk.evaluation.calibration`.

    Args:
        probabilities: For each class of the queries of tasks, ``(T, M, ways)``, of any backend; of
            ``(n, ways)`` each example counts as a task.
        labels: The right classes, ``(T, M)`` or ``(n,)``.
        bins: At most so many bins, of equal mass.

    Raises:
        SettingError: If ``bins`` is not a positive integer, or probabilities do not add up to one.
        MltkError: If the arrays are not of this form.
    """
    found = reliability(probabilities, labels, bins=bins)
    p, y = judged(probabilities, labels)
    return Calibration(
        accuracy=over_tasks((p.argmax(axis=-1) == y).mean(axis=1)),
        confidence=over_tasks(p.max(axis=-1).mean(axis=1)),
        nll=over_tasks(_nll(p, y).mean(axis=1)),
        brier=over_tasks(_brier(p, y).mean(axis=1)),
        brier_parts=brier_parts(probabilities, labels, bins=bins),
        ece=_ece_over_tasks(p, y, bins),
        bins=found,
    )


def ece(probabilities: Array, labels: Array, *, bins: int = BINS) -> float:
    """The expected calibration error with bins of equal mass: see `mltk.evaluation.reliability`.

    Args:
        probabilities: As for `calibration`.
        labels: Likewise.
        bins: At most so many bins.

    Raises:
        MltkError: As `calibration`.
    """
    return reliability(probabilities, labels, bins=bins).ece


def nll(probabilities: Array, labels: Array) -> float:
    """The mean negative log-likelihood; infinite where a right class has probability zero.

    Args:
        probabilities: As for `calibration`.
        labels: Likewise.

    Raises:
        MltkError: As `calibration`.
    """
    return float(np.mean(_nll(*judged(probabilities, labels))))


def brier(probabilities: Array, labels: Array) -> float:
    """The mean Brier score, summed over classes, from 0 to 2.

    Args:
        probabilities: As for `calibration`.
        labels: Likewise.

    Raises:
        MltkError: As `calibration`.
    """
    return float(np.mean(_brier(*judged(probabilities, labels))))


def brier_parts(probabilities: Array, labels: Array, *, bins: int = BINS) -> BrierParts:
    """What the Brier score is made of: see `mltk.evaluation.calibration`.

    Args:
        probabilities: As for `calibration`.
        labels: Likewise.
        bins: At most so many bins.

    Raises:
        MltkError: As `calibration`.
    """
    check_count("bins", bins)
    p, y = judged(probabilities, labels)
    bin_of = bins_by_confidence(confidence_and_right(p, y)[0], bins)
    ranks = np.argsort(-p, axis=-1, kind="stable")
    p = np.take_along_axis(p, ranks, axis=-1).reshape(-1, p.shape[-1])
    target = (ranks == y[..., None]).reshape(p.shape).astype(np.float64)
    counts = np.bincount(bin_of)
    shares = counts / bin_of.size
    p_bins, y_bins = (_sums(values, bin_of) / counts[:, None] for values in (p, target))
    frequencies = target.mean(axis=0)
    off = p - p_bins[bin_of]
    return BrierParts(
        calibration=float(shares @ np.sum((p_bins - y_bins) ** 2, axis=1)),
        resolution=float(shares @ np.sum((y_bins - frequencies) ** 2, axis=1)),
        uncertainty=float(1 - frequencies @ frequencies),
        within=float(np.mean(np.sum(off * (off - 2 * (target - y_bins[bin_of])), axis=1))),
    )


def _sums(values: np.ndarray, bin_of: np.ndarray) -> np.ndarray:
    """The sums of vectors ``(n, ways)`` over each bin."""
    sums = np.zeros((int(bin_of.max()) + 1, values.shape[1]))
    np.add.at(sums, bin_of, values)
    return sums


def _nll(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of each query."""
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(of_labels(p, y)))


def _brier(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Of each query."""
    return np.asarray(np.sum((p - (np.arange(p.shape[-1]) == y[..., None])) ** 2, axis=-1))


def _ece_over_tasks(p: np.ndarray, y: np.ndarray, bins: int) -> Interval:
    """The ECE with its interval by the jackknife."""
    confidence, right = confidence_and_right(p, y)
    bin_of = bins_by_confidence(confidence, bins)
    tasks, queries = y.shape
    count = bin_of.max() + 1
    place = np.repeat(np.arange(tasks), queries) * count + bin_of
    gaps = np.bincount(place, right - confidence, tasks * count).reshape(tasks, count)
    total = gaps.sum(axis=0)
    estimate = float(np.abs(total).sum() / y.size)
    found = Interval(estimate, 0.0, math.inf, over="tasks", units=tasks)
    if tasks < 2:
        return found
    without = np.abs(total - gaps).sum(axis=1) / (y.size - queries)
    half = quantile(tasks - 1, found.level) * math.sqrt((tasks - 1) * float(np.var(without)))
    return replace(found, low=max(0.0, estimate - half), high=estimate + half)
