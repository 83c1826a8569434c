r"""Confidence sequences: intervals for a mean that hold at all times together.

A 95 % interval by Student's t that is looked at again and again misses the mean sooner or later. A confidence
sequence $C_1, C_2, \dots$ has $P(\forall t: \mu \in C_t) \ge 1 - \alpha$: one may stop when one likes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mltk.checks import check_between, check_count
from mltk.errors import SettingError, ShapeError

FIRST = 50
"""Tasks from which on the asymptotic sequence says something: the central limit theorem needs some."""

GRID = 1000
"""Means that a betting sequence tries, over the range of the values."""

CAP = 0.5
"""Of the largest bet that cannot lose everything, so much is bet at most."""


@dataclass(frozen=True)
class Sequence:
    """A confidence sequence.

    Attributes:
        estimate: The estimate after each value, ``(..., n)``.
        low: Where each interval begins; minus infinity before anything is known.
        high: Where each interval ends.
    """

    estimate: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Moments:
    """What an asymptotic sequence keeps of the values so far: it goes on from here.

    Attributes:
        count: How many there were.
        origin: The first of them: sums of differences from it round less.
        total: The sum of the differences from it.
        squares: The sum of their squares.
    """

    count: int = 0
    origin: np.ndarray | float = 0.0
    total: np.ndarray | float = 0.0
    squares: np.ndarray | float = 0.0

    def update(
        self, values: np.ndarray, *, alpha: float = 0.05, best_at: int = 500
    ) -> tuple[Moments, Sequence]:
        """See `asymptotic`, of which this computes the part after ``n`` more values ``(..., n)``."""
        origin = np.asarray(self.origin if self.count else values[..., 0])
        shifted = values - origin[..., None]
        total = _sums(self.total, shifted)
        squares = _sums(self.squares, shifted**2)
        times = self.count + np.arange(1, values.shape[-1] + 1)
        mean = total / times
        deviation = np.sqrt(np.maximum(squares / times - mean**2, 0))
        with np.errstate(invalid="ignore"):  # the first times have an infinite radius, of whatever deviation
            radius = np.where(
                times < FIRST, math.inf, deviation * mixture_boundary(times, alpha, best_at) / times
            )
        estimate = origin[..., None] + mean
        after = Moments(int(times[-1]), origin, total[..., -1], squares[..., -1])
        return after, Sequence(estimate, estimate - radius, estimate + radius)


def _sums(before: np.ndarray | float, values: np.ndarray) -> np.ndarray:
    """Running sums that go on from one, rounded as if all values had come at once."""
    first = np.broadcast_to(before, values.shape[:-1])[..., None]
    return np.cumsum(np.concatenate([first, values], axis=-1), axis=-1)[..., 1:]


def asymptotic(values: np.ndarray, *, alpha: float = 0.05, best_at: int = 500) -> Sequence:
    r"""An asymptotic confidence sequence of a mean: for any values of finite variance, from 50 of them on.

    $$\hat\mu_t \pm \hat\sigma_t\, \frac{u(t)}t, \qquad
      u(v) = \sqrt{(v + \rho) \log \frac{v + \rho}{\rho \alpha^2}}$$

    with the deviation $\hat\sigma_t$ of the values so far. Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas
    (2024), *Time-uniform central limit theory and asymptotic confidence sequences*, theorem 2.2, in which
    their $\rho^2$ is $1/\rho$ here. Like an interval by the central limit theorem it holds approximately, the
    better the more values there are, and not where what matters is too rare to have been seen.

    Args:
        values: ``(..., n)``: repetitions in front, time last.
        alpha: The intervals hold the mean at all times together with probability 1 - ``alpha``.
        best_at: After how many values they are to be narrowest.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> sequence = mltk.evaluation.asymptotic(np.random.default_rng(0).normal(0.5, 0.1, 400))
        >>> f"{sequence.low[-1]:.3f} to {sequence.high[-1]:.3f}"
        '0.481 to 0.511'
    """
    check_count("best_at", best_at)
    return Moments().update(_checked(values, alpha), alpha=alpha, best_at=best_at)[1]


def mixture_boundary(variances: np.ndarray, alpha: float, best_at: float) -> np.ndarray:
    r"""The two-sided normal mixture boundary $u(v)$ (Robbins 1970; Howard et al. 2021, eq. 14).

    It is narrowest at $v^*$ for $\rho = v^* / (y - 1)$ with $y - \log y = 1 - 2 \log \alpha$, $y > 1$.

    Args:
        variances: The sum of variances $v$ at each time.
        alpha: Probability that a sum of such normal variables ever leaves $\pm u$.
        best_at: The $v^*$ at which it is narrowest.
    """
    y = right = 1 - 2 * math.log(alpha)
    for _ in range(60):  # the map is a contraction by 1/y, which is below 1
        y = right + math.log(y)
    rho = best_at / (y - 1)
    return np.asarray(np.sqrt((variances + rho) * np.log((variances + rho) / (rho * alpha**2))))


def empirical_bernstein(
    values: np.ndarray,
    *,
    low: float = 0.0,
    high: float = 1.0,
    alpha: float = 0.05,
    population: int | None = None,
) -> Sequence:
    r"""The empirical-Bernstein confidence sequence of a mean of bounded values.

    Waudby-Smith & Ramdas (2024), *Estimating means of bounded random variables by betting*, theorem 2: with
    $\hat\mu_t = (\frac12 + \sum x) / (t + 1)$, $\hat\sigma^2_t = (\frac14 + \sum (x_i - \hat\mu_i)^2) / (t +
    1)$,

    $$\frac{\sum_i \lambda_i x_i}{\sum_i \lambda_i} \pm
      \frac{\log(2/\alpha) + \sum_i 4 (x_i - \hat\mu_{i-1})^2 \psi(\lambda_i)}{\sum_i \lambda_i}, \quad
      \psi(\lambda) = \frac{-\log(1 - \lambda) - \lambda}4, \quad
      \lambda_t = \sqrt{\frac{2 \log(2/\alpha)}{\hat\sigma^2_{t-1}\, t \log(1 + t)}} \wedge \frac12 .$$

    It holds exactly, at every time, whatever the distribution. Drawn without replacement from a population of
    ``N`` (theorem 3 there), $x_i$ becomes $x_i + \sum_{j<i} x_j / (N - i + 1)$ in the first sum and
    $\lambda_i$ becomes $\lambda_i N / (N - i + 1)$ in the denominators.

    Args:
        values: ``(..., n)``: repetitions in front, time last.
        low: No value is below.
        high: No value is above.
        alpha: The intervals hold the mean at all times together with probability 1 - ``alpha``.
        population: How many values there are in all, where they are drawn without replacement.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> x = np.random.default_rng(0).uniform(size=400)
        >>> sequence = mltk.evaluation.empirical_bernstein(x)
        >>> f"{sequence.low[-1]:.3f} to {sequence.high[-1]:.3f}"
        '0.481 to 0.585'
    """
    x = _in_unit(values, low, high, alpha, population)
    bets, before = _bets(x, alpha)
    bets = np.minimum(bets, CAP)
    left = _left(x.shape[-1], population)
    past = np.cumsum(x, axis=-1) - x
    spread = np.cumsum(bets * np.ones_like(x) if population is None else bets * population / left, axis=-1)
    centre = np.cumsum(bets * (x if population is None else x + past / left), axis=-1) / spread
    variance = np.cumsum(4 * (x - before) ** 2 * (-np.log1p(-bets) - bets) / 4, axis=-1)
    radius = (math.log(2 / alpha) + variance) / spread
    ends = np.clip([centre, centre - radius, centre + radius], 0, 1)
    return Sequence(*(low + (high - low) * ends))


def betting(
    values: np.ndarray,
    *,
    low: float = 0.0,
    high: float = 1.0,
    alpha: float = 0.05,
    population: int | None = None,
) -> Sequence:
    r"""The confidence sequence of a mean of bounded values by hedged betting: exact, and narrower.

    Waudby-Smith & Ramdas (2024), theorem 3: against each mean $m$ two gamblers bet,

    $$K^\pm_t(m) = \prod_{i \le t} \big(1 \pm \lambda^\pm_i(m)\,(x_i - m)\big), \qquad
      \lambda^+_i = |\lambda_i| \wedge \frac1{2m}, \quad \lambda^-_i = |\lambda_i| \wedge \frac1{2(1 - m)},$$

    with $\lambda_i$ as in `empirical_bernstein` but without its limit, and $C_t = \{m : \max(K^+_t, K^-_t)/2
    < 1/\alpha\}$. The means that are tried are 1,001 over the range, and the interval ends at the first that
    is refuted. Without replacement (theorem 4 there) $m$ is replaced by the mean of what is left, $(N m -
    \sum_{j<i} x_j) / (N - i + 1)$; a mean for which that leaves the range is impossible.

    Args:
        values: ``(..., n)``: repetitions in front, time last.
        low: No value is below.
        high: No value is above.
        alpha: The intervals hold the mean at all times together with probability 1 - ``alpha``.
        population: How many values there are in all, where they are drawn without replacement.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> sequence = mltk.evaluation.betting(np.random.default_rng(0).uniform(size=400))
        >>> f"{sequence.low[-1]:.3f} to {sequence.high[-1]:.3f}"
        '0.480 to 0.578'
    """
    x = _in_unit(values, low, high, alpha, population)
    n = x.shape[-1]
    means = np.linspace(0, 1, GRID + 1)
    bets = _bets(x, alpha)[0]
    past, left = np.cumsum(x, axis=-1) - x, _left(n, population)
    capital = np.full((2, *x.shape[:-1], means.size), math.log(1 / 2))
    ends = np.empty((2, *x.shape))
    for time in range(n):
        now, bet = x[..., time, None], bets[..., time, None]
        mean = means if population is None else (population * means - past[..., time, None]) / left[time]
        with np.errstate(divide="ignore"):
            above, below = (CAP / np.clip(each, 0, 1) for each in (mean, 1 - mean))
        possible = (mean >= -_ROUNDING) & (mean <= 1 + _ROUNDING)
        gains = np.stack([np.minimum(bet, above) * (now - mean), np.minimum(bet, below) * (mean - now)])
        capital += np.log1p(np.where(possible, np.maximum(gains, -CAP), 0))
        capital[:, ~np.broadcast_to(possible, capital.shape[1:])] = math.inf
        kept = capital.max(axis=0) <= math.log(1 / alpha)
        first, last = kept.argmax(axis=-1), GRID - kept[..., ::-1].argmax(axis=-1)
        some = kept.any(axis=-1)
        ends[0, ..., time] = np.where(some, np.maximum(first - 1, 0) / GRID, 0)
        ends[1, ..., time] = np.where(some, np.minimum(last + 1, GRID) / GRID, 1)
    sums, times = np.cumsum(x, axis=-1), np.arange(1, n + 1)
    if population is not None:
        ends = np.stack([np.maximum(ends[0], sums / population), ends[1]])
        ends[1] = np.minimum(ends[1], (sums + population - times) / population)
    return Sequence(*(low + (high - low) * np.stack([sums / times, *ends])))


_ROUNDING = 1e-9


def _bets(x: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """The bets of both sequences, without limits, and the mean that is expected before each value."""
    times = np.arange(1, x.shape[-1] + 1)
    means = (0.5 + np.cumsum(x, axis=-1)) / (times + 1)
    variances = (0.25 + np.cumsum((x - means) ** 2, axis=-1)) / (times + 1)
    first = np.ones_like(x[..., :1])
    before = np.concatenate([first / 2, means[..., :-1]], axis=-1)
    variance = np.concatenate([first / 4, variances[..., :-1]], axis=-1)
    return np.sqrt(2 * math.log(2 / alpha) / (variance * times * np.log1p(times))), before


def _left(n: int, population: int | None) -> np.ndarray:
    """How many values are left before each is drawn."""
    return np.asarray((n if population is None else population) - np.arange(n), dtype=float)


def _in_unit(values: np.ndarray, low: float, high: float, alpha: float, population: int | None) -> np.ndarray:
    """The values, brought from ``[low, high]`` to [0, 1]."""
    values = _checked(values, alpha)
    if not low < high:
        raise SettingError(f"low is {low!r} and high is {high!r}; expected low < high")
    if not (values.min() >= low and values.max() <= high):
        raise SettingError(
            f"the values go from {values.min():g} to {values.max():g}; expected them from {low:g} to {high:g}"
        )
    if population is not None:
        check_count("population", population, at_least=values.shape[-1])
    return np.clip((values - low) / (high - low), 0, 1)


def _checked(values: np.ndarray, alpha: float) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim < 1 or values.size == 0:
        raise ShapeError(f"values has shape {values.shape}; expected (..., n) with at least one value")
    check_between("alpha", alpha)
    if not np.isfinite(values).all():
        raise SettingError("values holds NaN or infinity; expected finite numbers")
    return values
