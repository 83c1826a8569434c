r"""Predictions in bins of equal mass by their confidence, and what calibrated ones would look like there.

The confidence of a prediction is the probability $c_i$ of its most probable class, and $r_i$ is 1 where that
is right. Of $n$ predictions in the order of their confidence, those of one and the same confidence take the
places $s$ to $e - 1$, counted from 0, and belong together to the bin $\lfloor B (s + e) / 2n \rfloor$ of $B$,
by the middle of their places. Where all differ, bins are of equal size to within one; with ties some may be
larger, and empty ones are left out. Labels have no say in it. With $n_b$ predictions in a bin, of mean
confidence $\bar c_b$ and accuracy $\bar r_b$,

$$\text{ECE} = \sum_b \frac{n_b}n \, |\bar r_b - \bar c_b|.$$

Were the predictions calibrated, and labels drawn independently with the probabilities predicted, then the
number of right ones in a bin would be a sum of Bernoulli variables, the Poisson-binomial distribution with
probabilities $c_i$. These are the coefficients of the product of the polynomials $1 - c_i + c_i z$, which are
multiplied in pairs. It gives the value that the ECE then has in expectation, which is not zero, and bounds
for $\bar r_b$.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mltk.checks import check_count
from mltk.evaluation.probabilities import judged
from mltk.tree import Array

BINS = 15
"""As many bins as most publications have (Guo, Pleiss, Sun & Weinberger 2017)."""

LEVEL = 0.95
"""How often the accuracy of a bin would lie within its bounds."""


class Reliability(NamedTuple):
    """Predictions in bins, by increasing confidence; arrays are ``(bins,)``.

    Attributes:
        counts: Predictions in each bin.
        confidence: Their mean confidence.
        accuracy: The part of them that is right.
        calibrated_low: Where the accuracy of calibrated predictions would lie in 95 % of cases, from here…
        calibrated_high: …to here.
        calibrated_ece: The expected value of the ECE, were they calibrated.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    calibrated_low: np.ndarray
    calibrated_high: np.ndarray
    calibrated_ece: float

    @property
    def ece(self) -> float:
        """The expected calibration error."""
        return float(self.counts @ np.abs(self.accuracy - self.confidence) / self.counts.sum())

    @property
    def squared_error(self) -> float:
        r"""The debiased squared calibration error (Kumar, Liang & Ma 2019, section 4.1).

        $\sum_b \frac{n_b}n \big((\bar c_b - \bar r_b)^2 - \bar r_b (1 - \bar r_b) / (n_b - 1)\big)$: it may
        be negative, and is zero on average where predictions of a bin are right alike often, and as often as
        they claim. A bin of one prediction, which says nothing, counts as zero.
        """
        noise = self.accuracy * (1 - self.accuracy) / np.maximum(self.counts - 1, 1)
        errors = (self.accuracy - self.confidence) ** 2 - noise
        return float(self.counts @ np.where(self.counts > 1, errors, 0) / self.counts.sum())


def reliability(probabilities: Array, labels: Array, *, bins: int = BINS) -> Reliability:
    """Predictions in bins by their confidence: see `mltk.evaluation.reliability`.

    Args:
        probabilities: For each class of the queries, ``(T, M, ways)`` or ``(n, ways)``, of any backend.
        labels: The right classes, ``(T, M)`` or ``(n,)``.
        bins: At most so many bins.

    Raises:
        SettingError: If ``bins`` is not a positive integer, or probabilities do not add up to one.
        MltkError: If the arrays are not of this form.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> sure = np.asarray([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.9, 0.1]])
        >>> found = mltk.evaluation.reliability(sure, np.asarray([0, 1, 0, 0]), bins=2)
        >>> found.confidence, found.accuracy
        (array([0.6, 0.9]), array([0.5, 1. ]))
    """
    check_count("bins", bins)
    p, y = judged(probabilities, labels)
    confidence, right = confidence_and_right(p, y)
    bin_of = bins_by_confidence(confidence, bins)
    order = np.argsort(bin_of, kind="stable")
    counts = np.bincount(bin_of)
    low, high, error = np.transpose(
        [_calibrated(part) for part in np.split(confidence[order], np.cumsum(counts)[:-1])]
    )
    mean, accuracy = (np.bincount(bin_of, each) / counts for each in (confidence, right))
    return Reliability(counts, mean, accuracy, low / counts, high / counts, float(error.sum() / right.size))


def confidence_and_right(p: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The confidence of each prediction, ``(n,)``, at most 1, and 1 or 0 for right or wrong."""
    confidence = np.minimum(p.max(axis=-1), 1).ravel()
    return confidence, (p.argmax(axis=-1) == y).ravel().astype(np.float64)


def bins_by_confidence(confidence: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each prediction ``(n,)``, numbered without gaps by increasing confidence."""
    _, group, sizes = np.unique(confidence, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    places = bins * (2 * ends - sizes) // (2 * confidence.size)
    return np.asarray(np.unique(places, return_inverse=True)[1][group])


def _calibrated(confidence: np.ndarray) -> tuple[int, int, float]:
    """Of the number of right predictions, were they calibrated: two quantiles, and the mean deviation."""
    chances = distribution_of_right(confidence)
    below = np.cumsum(chances)
    low, high = np.searchsorted(below, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    less = np.arange(chances.size) - confidence.sum()
    # Deviations below and above the mean are equal, and those below come from fewer terms.
    return int(low), int(high), float(2 * chances @ np.maximum(-less, 0))


def distribution_of_right(probabilities: np.ndarray) -> np.ndarray:
    """The chances of 0 to n successes, ``(n + 1,)``, in independent trials with chances ``(n,)``."""
    count = probabilities.size
    padded = np.zeros(1 << (count - 1).bit_length())
    padded[:count] = probabilities
    polynomials = np.stack([1 - padded, padded], axis=1)
    while len(polynomials) > 1:
        size = 2 * polynomials.shape[1]
        transformed = np.fft.rfft(polynomials, size)
        polynomials = np.fft.irfft(transformed[::2] * transformed[1::2], size)
    return np.maximum(polynomials[0, : count + 1], 0)
