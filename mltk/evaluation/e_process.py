r"""Evidence that may be looked at at any time: whether differences are symmetric around zero.

Where A and B are exchangeable on a task, the difference $d$ of their scores has the law of $-d$, and for any
$\lambda$ (de la Peña 1999, *A general class of exponential inequalities for martingales and ratios*, lemma
6.1)

$$\mathrm E\Big[\frac{e^{\lambda d}}{\cosh \lambda d}\Big] = 1, \qquad
  E_t = \frac1K \sum_k \exp \sum_{s \le t} \big(\lambda_k d_s - \log\cosh \lambda_k d_s\big),$$

so $E_t$ is a martingale that begins at 1, and by Ville's inequality $P(\exists t: E_t \ge 1/\alpha) \le
\alpha$, however often it is looked at. Nothing is asked of the scale or the tails of the differences. Half of
the $\lambda_k$ are positive and bet that A is better, half are negative:

$$E_t = \tfrac12 E_t^+ + \tfrac12 E_t^-, \qquad
  \frac{e^{\lambda d}}{\cosh\lambda d} = 1 + \tanh \lambda d.$$

The second identity gives the direction: where $\mathrm E \tanh \lambda_k d \le 0$ for the positive
$\lambda_k$, as when $d$ is symmetric around a point $\le 0$, $E^+$ is a supermartingale. So "A is better",
said when $E^+ \ge 2/\alpha$, is false with probability at most $\alpha/2$, and so is "B is better".

It is *symmetry* that is tested: differences with mean zero that are skewed are told from zero sooner or
later.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

RATES = np.geomspace(0.3, 100, 24)
"""The positive half of the grid: differences of accuracies are a few hundredths to a few tenths."""


@dataclass(frozen=True)
class EProcess:
    """The capital of the bets after some differences, from which it goes on.

    Attributes:
        log_capital: The logarithm of each bet's capital, ``(..., 2, 24)``: those that A is better, those that
            B is.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> differences = np.asarray([0.1, 0.2, 0.1, 0.15, 0.1, 0.2, 0.1])
        >>> state, log_values = mltk.evaluation.EProcess().update(differences)
        >>> bool(log_values[-1, 0] > np.log(2 / 0.05) > log_values[-1, 1])
        True
    """

    log_capital: np.ndarray = field(default_factory=lambda: np.zeros((2, RATES.size)))

    def update(self, differences: np.ndarray) -> tuple[EProcess, np.ndarray]:
        r"""Go on by some differences; in whatever parts they come, the result is the same to the last bit.

        Args:
            differences: How much better A is on each of ``n`` more tasks, ``(..., n)``.

        Returns:
            The state after them, and $\log E^+$ and $\log E^-$ after each, ``(..., n, 2)``.
        """
        bets = differences[..., None] * RATES
        # log(1 ± tanh x) = ±x − log cosh x, where log cosh x = |x| + log(1 + exp(−2|x|)) − log 2
        log_cosh = np.abs(bets) + np.log1p(np.exp(-2 * np.abs(bets))) - math.log(2)
        gains = np.stack([bets - log_cosh, -bets - log_cosh], axis=-2)
        before = np.broadcast_to(self.log_capital, (*gains.shape[:-3], *gains.shape[-2:]))
        capital = np.cumsum(np.concatenate([before[..., None, :, :], gains], axis=-3), axis=-3)
        return EProcess(capital[..., -1, :, :]), log_mean_exp(capital[..., 1:, :, :])


def log_mean_exp(values: np.ndarray) -> np.ndarray:
    """The logarithm of the mean of the exponentials along the last axis, without overflow."""
    largest = values.max(axis=-1, keepdims=True)
    return np.asarray(largest[..., 0] + np.log(np.mean(np.exp(values - largest), axis=-1)))
