r"""How well bandits can be played: Gittins' index, and the best return of a finite horizon.

An arm pays 1 with a chance $\theta \sim \mathrm{Beta}(a, b)$ and else 0; after $s$ successes and $f$
failures its chance is $\mathrm{Beta}(a + s, b + f)$. If a payoff $t$ pulls ahead counts $\gamma^t$, *for
ever*, then it is best to pull the arm with the largest index (Gittins & Jones 1974; Gittins 1979),

$$\nu = \sup_{\tau \ge 1} \frac{\mathbb E \sum_{t < \tau} \gamma^t r_t}{\mathbb E \sum_{t < \tau} \gamma^t},$$

the payoff of a sure arm that is as good. For a number of pulls that is known and finite **no index is
optimal**: `best_return` is the optimum there, by dynamic programming over all states. For the bandits of
`mltk.data.Bandits`, which are played by a policy without memory, see its ``bayes_means``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mltk.checks import check_between, check_count, is_number
from mltk.errors import SettingError

MOST = 2**27
"""States of arms whose values are kept at once: a gigabyte."""

TOLERANCE = 1e-8
"""What is known of an arm is its expectation from where on the rest counts less than this."""


def gittins_index(successes: float, failures: float, *, discount: float) -> float:
    """The index of an arm whose chance to pay 1 is Beta distributed.

    The ratio is improved by the stopping that is best for its last value, found by dynamic programming
    over the next pulls, until it grows no more: then it is the largest. What comes after the horizon changes
    it by less than 1e-8. The work grows with the square of the horizon: 30 ms for 0.9, 1 s for 0.99, two
    minutes for 0.999.

    Args:
        successes: $a$, above 0: 1 and what was seen, for a uniform prior.
        failures: $b$, above 0.
        discount: What the next payoff counts, between 0 and 1.

    Raises:
        SettingError: If an argument is out of its range.

    Examples:
        >>> import mltk
        >>> index = mltk.task_analysis.gittins_index
        >>> round(index(1, 1, discount=0.9), 4)  # of an arm of which nothing is known
        0.7029
    """
    _check_arm((successes, failures))
    check_between("discount", discount)
    horizon = math.ceil(math.log(TOLERANCE * (1 - discount)) / math.log(discount))
    for_ever = 1 / (1 - discount)
    better = successes / (successes + failures)
    index = 0.0
    while better > index + 1e-14:
        index = better
        for pulls in range(horizon, -1, -1):
            mean = (successes + np.arange(pulls + 1)) / (successes + failures + pulls)
            if pulls == horizon:
                reward, after = mean * for_ever, np.zeros(pulls + 1)  # of the arm, and time with the sure one
            else:
                reward = mean * (1 + discount * reward[1:]) + (1 - mean) * discount * reward[:-1]
                after = discount * (mean * after[1:] + (1 - mean) * after[:-1])
            if pulls:
                stop = reward + index * after < index * for_ever
                reward, after = np.where(stop, 0.0, reward), np.where(stop, for_ever, after)
        better = float(reward[0] / (for_ever - after[0]))
    return index


def best_return(arms: Sequence[tuple[float, float]], *, pulls: int, discount: float = 1.0) -> float:
    r"""The largest expected sum of payoffs that any way to play can reach.

    All $n^{2k} / 2k$ states of $n$ pulls of $k$ arms are visited, so this is for two or three arms.

    Args:
        arms: $(a, b)$ of the Beta distribution of each arm's chance.
        pulls: How often some arm is pulled.
        discount: What the next payoff counts, above 0 and at most 1.

    Raises:
        SettingError: If an argument is out of its range.

    Examples:
        >>> import mltk
        >>> mltk.task_analysis.best_return([(1, 1), (1, 1)], pulls=2)  # 1/2, and then 2/3 or 1/2 again
        1.0833333333333333
    """
    if not isinstance(arms, tuple | list):
        raise SettingError(f"arms is {arms!r}; expected a list of pairs")
    for each in arms:
        _check_arm(each)
    check_count("pulls", pulls)
    if not arms or not is_number(discount) or not 0 < discount <= 1:
        raise SettingError(f"arms is {arms} and discount {discount}; expected an arm, and 0 < discount <= 1")
    axes = 2 * len(arms) - 1  # successes and failures of each arm; the last failures are what is left
    if (pulls + 1) ** axes > MOST:
        raise SettingError(
            f"{pulls} pulls of {len(arms)} arms have too many states; expected at most {MOST:,}"
        )
    value = np.zeros((pulls + 1,) * axes)
    for pulled in range(pulls - 1, -1, -1):
        counts: list[np.ndarray] = list(np.indices((pulled + 1,) * axes, sparse=True))
        counts.append(np.maximum(pulled - sum(counts), 0))
        here = (slice(pulled + 1),) * axes
        after = [value[*here[:axis], slice(1, pulled + 2), *here[axis + 1 :]] for axis in range(axes)]
        after.append(value[here])
        value = np.full((pulled + 1,) * axes, -np.inf)
        for arm, (a, b) in enumerate(arms):
            won, lost = after[2 * arm : 2 * arm + 2]
            mean = (a + counts[2 * arm]) / (a + b + counts[2 * arm] + counts[2 * arm + 1])
            value = np.maximum(value, mean * (1 + discount * won) + (1 - mean) * discount * lost)
    return float(value.item())


def _check_arm(arm: tuple[float, float]) -> None:
    if not isinstance(arm, tuple | list) or len(arm) != 2 or not all(is_number(n) and n > 0 for n in arm):
        raise SettingError(f"an arm is {arm!r}; expected two finite numbers above 0")
