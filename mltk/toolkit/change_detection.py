r"""Whether a stream of values has changed, with a stated rate of false alarms.

The rate is the *average run length*: how many values come, on average, before an alarm where nothing changes.

Two detectors need values whose law is known while nothing changes; `ChangeDetector` makes such values of any
others, by ranks.

**CUSUM** (Page 1954) keeps two sums of standard normal values $z_t$, with the allowance $k$, half the shift
that is to be found, and alarms when one reaches the threshold $h$:

$$S^+_t = \max(0, S^+_{t-1} + z_t - k), \qquad S^-_t = \max(0, S^-_{t-1} - z_t - k).$$

The run length $L(u)$ from a sum $u$, where values have the mean $\mu$, solves (Page 1954; Goel & Wu 1971)

$$L(u) = 1 + L(0)\,\Phi(k - u - \mu) + \int_0^h L(y)\,\varphi(y + k - u - \mu)\,dy,$$

and that of both sums is $1 / (1/L^+ + 1/L^-)$ (Kemp 1961). So the threshold for a run length is *computed*.

**An e-detector** (Shin, Ramdas & Rinaldo 2023, *E-detectors: a nonparametric framework for sequential change
detection*) bets against "nothing has changed": increments $e_t \ge 0$ with $\mathrm E[e_t \mid \text{past}]
\le 1$, of which one starts anew at each time (Shiryaev-Roberts), so

$$M_t = (M_{t-1} + 1)\, e_t, \qquad \text{alarm where } M_t \ge R.$$

While nothing changes $M_t - t$ is a supermartingale, so the time $\tau$ of the alarm has $\mathrm E\,\tau \ge
\mathrm E M_\tau \ge R$: the average run length is at least $R$, whatever the law, also if the values depend
on each other. A mean over several bets is as good, and what sets $M$ back, as a new beginning does, keeps the
bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np

from mltk.checks import Checked, CountOrZero, Positive, check_between
from mltk.errors import NotFiniteError, SettingError, ShapeError

LONGEST = 1e6
"""Run lengths beyond are not computed: the equations for them are too close to singular."""

POWERS = np.asarray([0.5, 1, 2, 4, 8])
r"""The bets $(1 + \kappa) u^\kappa$ on values $u$ that are uniform while nothing changes."""

STAKES = np.asarray([0.125, 0.25, 0.5, 1])
r"""The bets $1 + \lambda (x / m - 1)$ on values of which only the mean $m$ and the range 0 to 1 are known."""

MOST = 2000
"""So many values are compared with; then the comparison, not the evidence, begins anew."""

D = TypeVar("D", bound="Detector")


class Detector(Protocol):
    """What finds changes in values whose law is known, and remembers what it needs."""

    def update(self: D, values: Any) -> tuple[D, np.ndarray]:
        """Go on by values ``(..., n)``.

        Returns:
            What goes on from here, and after each value 1 if it was found that they have risen, -1 if that
            they have fallen, and 0 otherwise, int8. After an alarm it begins anew.
        """

    def of_uniform(self, values: np.ndarray) -> np.ndarray:
        """Values of the law that it expects, from values that are uniform between 0 and 1."""


@dataclass(frozen=True)
class Cusum(Checked):
    """The two-sided CUSUM of values that are standard normal and independent while nothing changes.

    Attributes:
        run_length: How many values come, on average, before a false alarm; exactly.
        shift: The change of the mean, in standard deviations, that is found soonest.
        sums: The two sums so far, of values that have risen and of values that have fallen, ``(..., 2)``.

    Examples:
        >>> import mltk
        >>> detector = mltk.toolkit.Cusum(run_length=465, shift=1)
        >>> round(detector.threshold, 2)
        5.0
        >>> _, alarms = detector.update([0.3, -0.5, 0.1, 2.1, 2.4, 1.9, 2.2])
        >>> print(alarms)
        [0 0 0 0 0 0 1]
    """

    run_length: Positive = 1000.0
    shift: Positive = 1.0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(2), repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.1 <= self.shift <= 5:
            raise SettingError(f"shift is {self.shift!r}; expected a number from 0.1 to 5")
        shortest = 1 / math.erfc(self.shift / 2 / math.sqrt(2))
        if not shortest < self.run_length <= LONGEST:
            raise SettingError(
                f"run_length is {self.run_length!r}; expected a number above {shortest:.3g} (for a shift of "
                f"{self.shift}) and at most {LONGEST:g}"
            )

    @property
    def threshold(self) -> float:
        """Where a sum is an alarm, in standard deviations: it gives the run length."""
        return _threshold(float(self.run_length), float(self.shift))

    def update(self, values: Any) -> tuple[Cusum, np.ndarray]:
        """See `Detector.update`."""
        values, sums = _begun(values, self.sums, (2,))
        alarms = np.zeros(values.shape, dtype=np.int8)
        threshold, allowance = self.threshold, self.shift / 2
        for time in range(values.shape[-1]):
            now = values[..., time]
            sums = np.maximum(0, sums + np.stack([now, -now], axis=-1) - allowance)
            alarms[..., time] = found = _direction(sums >= threshold)
            sums[found != 0] = 0
        return replace(self, sums=sums), alarms

    def of_uniform(self, values: np.ndarray) -> np.ndarray:
        """See `Detector.of_uniform`."""
        from scipy.special import ndtri

        return np.asarray(ndtri(np.clip(values, 1e-12, 1 - 1e-12)))


@dataclass(frozen=True)
class EDetector(Checked):
    """A two-sided e-detector of values between 0 and 1: a bound on false alarms that needs no model.

    Half of the bets are that values have risen, half that they have fallen.

    Attributes:
        run_length: At least so many values come, on average, before a false alarm.
        mean: What is known while nothing changes: the mean of each value, given those before; ``None`` if
            values are uniform, given those before.
        capital: What the bets of either half are worth, ``(..., 2, bets)``.

    Examples:
        >>> import mltk
        >>> accuracies = [0.8, 0.9, 0.8, 0.7, 0.9] + 30 * [0.4]
        >>> _, alarms = mltk.toolkit.EDetector(run_length=500, mean=0.8).update(accuracies)
        >>> alarms.tolist().index(-1)
        11
    """

    run_length: Positive = 1000.0
    mean: float | None = None
    capital: np.ndarray = field(default_factory=lambda: np.zeros((2, 1)), repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mean is not None:
            check_between("mean", self.mean)

    def update(self, values: Any) -> tuple[EDetector, np.ndarray]:
        """See `Detector.update`.

        Raises:
            SettingError: If a value is not between 0 and 1.
        """
        bets = POWERS.size if self.mean is None else STAKES.size
        values, capital = _begun(values, self.capital, (2, bets))
        if values.size and not (values.min() >= 0 and values.max() <= 1):
            raise SettingError(
                f"values lie between {values.min()} and {values.max()}; expected numbers from 0 to 1"
            )
        alarms = np.zeros(values.shape, dtype=np.int8)
        for time in range(values.shape[-1]):
            now = values[..., time]
            increments = [self._bets(now, self.mean)]
            increments.append(self._bets(1 - now, None if self.mean is None else 1 - self.mean))
            capital = (capital + 1) * np.stack(increments, axis=-2)
            alarms[..., time] = found = _direction(capital.mean(axis=-1) / 2 >= self.run_length)
            capital[found != 0] = 0
        return replace(self, capital=capital), alarms

    @staticmethod
    def _bets(now: np.ndarray, mean: float | None) -> np.ndarray:
        """What one unit becomes in each bet that values have risen, ``(..., bets)``."""
        now = now[..., None]
        if mean is None:
            return np.asarray((1 + POWERS) * now**POWERS)
        return np.asarray(1 + STAKES * (now / mean - 1))

    def of_uniform(self, values: np.ndarray) -> np.ndarray:
        """See `Detector.of_uniform`."""
        return values


@dataclass(frozen=True)
class ChangeDetector(Checked):
    r"""Finds changes in values of which nothing is known but that they are exchangeable until one.

    Each value is compared with all before it: of the $t$ values since the last beginning let $a_t$ be below
    the last one, and $b_t$ equal to it, itself among them. Then

    $$u_t = (a_t + \theta_t b_t) / t, \qquad \theta_t \text{ uniform between 0 and 1},$$

    are independent and uniform, exactly, whatever the law of the values (Vovk, Gammerman & Shafer 2005,
    *Algorithmic learning in a random world*, theorem 8.2; sequential ranks, Parent 1965; McDonald 1990, *A
    CUSUM procedure based on sequential ranks*). So the run lengths of the detectors are exact, or bounds, for
    all values: of heavy tails, skewed, with ties. A change is found by comparison with what was before it,
    and not in the first few values.

    After each alarm it begins anew, from the values after it. So it follows a loss that falls: each fall is
    found, and what follows is compared with the new level. False alarms of one direction alone come half as
    often as those of both.

    Attributes:
        detector: A `Cusum`, or an `EDetector` of uniform values.
        seed: Of the $\theta_t$.
        known: The values since the beginning, ``(..., t)``; NaN for those before it.
        count: How many there were in all.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> losses = np.random.default_rng(0).exponential(size=80) + np.repeat([0, 3], 40)
        >>> _, alarms = mltk.toolkit.ChangeDetector().update(losses)
        >>> np.flatnonzero(alarms)
        array([45])
    """

    detector: Detector = field(default_factory=EDetector)
    seed: CountOrZero = 0
    known: np.ndarray = field(default_factory=lambda: np.zeros(0), repr=False)
    count: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not hasattr(self.detector, "of_uniform") or getattr(self.detector, "mean", None) is not None:
            raise SettingError(
                f"detector is {self.detector!r}; expected a Cusum, or an EDetector without a mean"
            )

    def update(self, values: Any) -> tuple[ChangeDetector, np.ndarray]:
        """See `Detector.update`; in whatever parts the values come, the result is the same.

        Raises:
            NotFiniteError: If a value is NaN; an infinite one is larger than all others.
        """
        values, known = _begun(values, self.known, self.known.shape[-1:])
        alarms = np.zeros(values.shape, dtype=np.int8)
        detector = self.detector
        for time in range(values.shape[-1]):
            now = values[..., time, None]
            counter = [0, self.count + time, 0, 0]
            theta = np.random.Generator(np.random.Philox(key=self.seed, counter=counter)).random(now.shape)
            known = np.concatenate([known, now], axis=-1)
            below, equal, all_known = (
                each.sum(axis=-1, keepdims=True) for each in (known < now, known == now, ~np.isnan(known))
            )
            uniform = (below + theta * equal) / all_known
            detector, found = detector.update(detector.of_uniform(uniform))
            alarms[..., time] = found[..., 0]
            known[(found[..., 0] != 0) | (all_known[..., 0] >= MOST)] = math.nan
            known = known[..., _first_known(known) :]
        after = replace(self, detector=detector, known=known, count=self.count + values.shape[-1])
        return after, alarms


def run_length(threshold: float, shift: float = 1.0, *, mean: float = 0.0) -> float:
    """How many values come, on average, before the two-sided CUSUM alarms.

    Args:
        threshold: Where a sum is an alarm.
        shift: As in `Cusum`: the allowance is half of it.
        mean: That the values have, with standard deviation 1.

    Examples:
        >>> import mltk
        >>> from mltk.toolkit.change_detection import run_length
        >>> round(run_length(4.0)), round(run_length(4.0, mean=1.0), 2)
        (168, 8.38)
    """
    from scipy.special import ndtr

    # Several for each unit, on which a normal density varies.
    points, weights = np.polynomial.legendre.leggauss(40 + math.ceil(4 * threshold))
    points, weights = (points + 1) * threshold / 2, weights * threshold / 2
    start = np.concatenate([[0.0], points])
    rates = 0.0
    for centre in (mean, -mean):
        density = np.exp(-((points + shift / 2 - start[:, None] - centre) ** 2) / 2) / math.sqrt(2 * math.pi)
        back = ndtr(shift / 2 - start - centre)
        kernel = np.concatenate([back[:, None], density * weights], axis=1)
        rates += 1 / np.linalg.solve(np.eye(start.size) - kernel, np.ones(start.size))[0]
    return float(1 / rates)


@lru_cache
def _threshold(wanted: float, shift: float) -> float:
    """The threshold that gives a run length."""
    from scipy.optimize import brentq

    high = 1.0
    while run_length(high, shift) < wanted:
        high *= 1.25
    return float(
        brentq(lambda h: math.log(run_length(h, shift) / wanted), 1e-9, high, xtol=1e-12, rtol=1e-12)
    )


def _begun(values: Any, state: np.ndarray, of_each: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The values as float64, and what is known before them as an array of one entry a repetition."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 0:
        raise ShapeError("values has no axis; expected (..., n), in the order of time")
    if np.isnan(values).any():
        raise NotFiniteError("values has NaN; expected numbers")
    return values, np.broadcast_to(state, (*values.shape[:-1], *of_each)).copy()


def _direction(found: np.ndarray) -> np.ndarray:
    """1 where the first of two entries is true, -1 where only the second is."""
    return np.where(found[..., 0], 1, np.where(found[..., 1], -1, 0)).astype(np.int8)


def _first_known(known: np.ndarray) -> int:
    """How many leading times have no value in any repetition."""
    some = ~np.isnan(known).reshape(-1, known.shape[-1]).all(axis=0)
    return int(some.argmax()) if some.any() else known.shape[-1]
