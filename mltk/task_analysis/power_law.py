r"""A power law $a + b n^{-c}$ for errors that fall as examples or steps are added.

For each $c$ the best $a, b \ge 0$ are a problem of least squares in two unknowns, solved in closed form;
$c$ is searched on a grid that is narrowed around the best. All resamples of a bootstrap are fitted at
once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mltk.arguments import numbers
from mltk.errors import SettingError

SLOWEST, FASTEST = 0.02, 8.0
"""The range of $c$ that is searched."""

RESAMPLES = 1000
"""Bootstrap samples of tasks."""


def law_of_tasks(
    n: Sequence[int], errors: np.ndarray, seed: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The power law of mean errors, and those of bootstrap samples of the tasks.

    Args:
        n: Examples or steps; where it is 0 the law has no value, so the errors there are left out.
        errors: Of each task after each, ``(T, K)``.
        seed: Of the bootstrap.

    Returns:
        $(a, b, c)$ ``(3,)``, and ``(1000, 3)``; ``None`` both if fewer than 3 of ``n`` are above 0.
    """
    above = np.asarray(n, dtype=np.float64) > 0
    if above.sum() < 3:
        return None, None
    errors = errors[:, above]
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(errors), np.full(len(errors), 1 / len(errors)), RESAMPLES)
    spread = errors.std(axis=0, ddof=1)
    weights = 1 / np.maximum(spread, max(1e-3 * spread.max(), math.ulp(1.0))) ** 2
    means = np.concatenate([errors.mean(axis=0, keepdims=True), counts @ errors / len(errors)])
    laws = fit_power_law(np.asarray(n, dtype=np.float64)[above], means, weights)
    return laws[0], laws[1:]


def fit_power_law(n: np.ndarray, errors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted least squares fit of power laws with an asymptote and a factor of at least 0.

    Args:
        n: Examples or steps ``(K,)``, above 0, at least 3 different ones.
        errors: Means to fit, ``(B, K)``.
        weights: Weights of their squares ``(K,)``, above 0.

    Returns:
        $(a, b, c)$, ``(B, 3)``.

    Raises:
        SettingError: If a number of examples or a weight is not above 0, or there are too few.
        MltkError: If the arrays do not fit each other, or one holds NaN or infinity.
    """
    n = numbers("n", n, "K")
    errors, weights = numbers("errors", errors, "B", n.size), numbers("weights", weights, n.size)
    if n.min() <= 0 or len(np.unique(n)) < 3:
        raise SettingError(f"n is {n}; expected at least 3 different numbers above 0")
    if weights.min() <= 0:
        raise SettingError(f"weights is {weights}; expected numbers above 0")
    low = np.full(len(errors), np.log(SLOWEST))
    high = np.full(len(errors), np.log(FASTEST))
    for _ in range(10):
        grid = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, 41)
        a, b, squares = _given_rates(n, errors, weights, np.exp(grid))
        best = np.argmin(squares, axis=1)
        row = np.arange(len(errors))
        low, high = grid[row, np.maximum(best - 1, 0)], grid[row, np.minimum(best + 1, 40)]
    return np.stack([a[row, best], b[row, best], np.exp(grid[row, best])], axis=1)


def in_words(law: np.ndarray, resampled: np.ndarray) -> str:
    """A law ``(3,)``, the middle 95 % of those of resamples ``(B, 3)``, and whether $c$ is told by errors."""
    ends = np.quantile(resampled, [0.025, 0.975], axis=0).T
    parts = [
        f"{part} {value:.3g} [{low:.3g}, {high:.3g}]"
        for part, value, (low, high) in zip("abc", law, ends, strict=True)
    ]
    at_an_end = [not 1.05 * SLOWEST < rate < FASTEST / 1.05 for rate in (law[2], *ends[2])]
    text = ", ".join(parts)
    if any(at_an_end):
        told = "the errors do not tell it" if at_an_end[0] else "the interval ends there"
        text += f"; c is searched from {SLOWEST:g} to {FASTEST:g}: {told}"
    return text


def needed(law: np.ndarray, target: float) -> np.ndarray:
    """How many examples or steps a law needs for an error, infinite where its asymptote is not below it.

    Args:
        law: $(a, b, c)$ ``(B, 3)``.
        target: The error.
    """
    a, b, c = law.T
    room = target - a
    with np.errstate(divide="ignore", over="ignore"):
        count = (b / np.where(room > 0, room, 1)) ** (1 / c)
    return np.where(room > 0, count, np.inf)


def _given_rates(
    n: np.ndarray, errors: np.ndarray, weights: np.ndarray, rates: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """$a$, $b$ and the sum of squares for each rate, ``(B, G)``."""
    share = weights / weights.sum()
    x = n ** -rates[..., None]
    y = errors[:, None, :]
    mean_x, mean_y = np.sum(share * x, axis=-1), np.sum(share * y, axis=-1)
    variance = np.sum(share * (x - mean_x[..., None]) ** 2, axis=-1)
    b = np.sum(share * (x - mean_x[..., None]) * (y - mean_y[..., None]), axis=-1) / variance
    a = mean_y - b * mean_x
    through_zero = np.sum(share * x * y, axis=-1) / np.sum(share * x * x, axis=-1)
    b = np.where(a < 0, through_zero, b)
    a = np.maximum(a, 0)
    a, b = np.where(b < 0, mean_y, a), np.maximum(b, 0)
    squares = np.sum(share * (y - a[..., None] - b[..., None] * x) ** 2, axis=-1)
    return a, b, squares
