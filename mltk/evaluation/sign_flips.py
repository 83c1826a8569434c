r"""The permutation test of paired differences: were the signs a matter of chance?

If two learners are exchangeable on every task, each difference might as well have had the other sign. The
p-value is the part of all $2^N$ choices of signs whose sum is at least as far from zero as the sum that was
found (Fisher 1935). It is exact where the sums can be counted: differences of accuracies are whole multiples
of one over the number of queries, so their sums have few values, whose distribution is the convolution of one
coin for each task; few differences are enumerated; otherwise signs are drawn, and the choice that was found
counts as one of them (Phipson & Smyth 2010).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mltk.errors import NotFiniteError, ShapeError

FEW = 20
"""Differences of which all choices of signs are enumerated."""

FINEST = 2000
"""Queries a task up to which differences are recognised as multiples of one over them."""

WIDEST = 10**6
"""The largest sum, in such units, whose distribution is counted."""

LONGEST = 2**29
"""The most additions by which a distribution is counted: a second or so."""

DRAWN = 9999
"""Choices of signs that are drawn where they cannot be counted."""

AT_ONCE = 2**20
"""Signs that are drawn at once, so that memory does not grow with the number of tasks."""

TIE = 1e-12
"""Relative difference up to which sums of enumerated or drawn signs count as equal."""


class SignFlips(NamedTuple):
    """The p-value of the test, and whether it was counted or sampled.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> mltk.evaluation.sign_flips(np.asarray([0.2, 0.4, 0.2, 0.6]))
        SignFlips(p=0.125, exact=True)
    """

    p: float
    exact: bool


def sign_flips(differences: np.ndarray, *, seed: int = 0) -> SignFlips:
    """The two-sided sign-flip permutation test of differences that are symmetric around zero.

    Args:
        differences: ``(N,)``, of at least one task; beyond some thousand the signs are drawn.
        seed: Of the signs, where they are drawn.

    Raises:
        ShapeError: If the differences are not ``(N,)``, or there is none.
        NotFiniteError: If one is NaN or infinite.
    """
    if differences.ndim != 1 or differences.size == 0:
        raise ShapeError(f"differences has shape {differences.shape}; expected (tasks,)")
    if not np.isfinite(differences).all():
        raise NotFiniteError("a difference is NaN or infinite; expected finite numbers")
    differences = differences[differences != 0]
    if differences.size == 0:
        return SignFlips(1.0, True)
    differences = differences / np.abs(differences).max()
    whole = _multiples(differences)
    if whole is not None and whole.size * np.abs(whole).sum() <= LONGEST:
        return SignFlips(_counted(np.abs(whole), abs(int(whole.sum()))), True)
    found = abs(differences.sum()) - TIE * np.abs(differences).sum()
    if differences.size <= FEW:
        sums = np.zeros(1)
        for each in differences:
            sums = np.concatenate([sums + each, sums - each])
        return SignFlips(float(np.mean(np.abs(sums) >= found)), True)
    rng = np.random.default_rng(seed)
    rows, extreme = max(1, AT_ONCE // differences.size), 0
    for start in range(0, DRAWN, rows):
        shape = (min(rows, DRAWN - start), differences.size)
        signs = rng.choice(np.asarray([-1.0, 1.0]), shape)
        extreme += int(np.count_nonzero(np.abs(signs @ differences) >= found))
    return SignFlips((1 + extreme) / (1 + DRAWN), False)


def _multiples(differences: np.ndarray) -> np.ndarray | None:
    """Differences up to 1 as multiples of the largest unit that measures them all; ``None`` if none does."""
    smallest = np.abs(differences).min()
    if smallest * WIDEST < 1:
        return None
    for part in range(1, FINEST + 1):
        scaled = differences * (part / smallest)
        if np.abs(scaled).sum() > WIDEST:
            return None
        if np.allclose(scaled, np.round(scaled), rtol=0, atol=1e-7):
            return np.asarray(np.round(scaled), dtype=np.int64)
    return None


def _counted(steps: np.ndarray, found: int) -> float:
    """How likely a sum of the steps with random signs is at least so far from zero."""
    middle = int(steps.sum())
    chances = np.zeros(2 * middle + 1)
    chances[middle] = 1.0
    reach = 0
    for step in steps:
        low, high = middle - reach, middle + reach + 1
        known = chances[low:high].copy() / 2
        chances[low:high] = 0.0
        chances[low - step : high - step] += known
        chances[low + step : high + step] += known
        reach += int(step)
    # Two tails of one another's size; at zero all of it.
    return float(min(1.0, 2 * chances[middle + found :].sum())) if found else 1.0
