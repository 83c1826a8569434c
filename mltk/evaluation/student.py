r"""Confidence intervals of a mean by Student's t.

For $\nu$ degrees of freedom and $\theta = \arctan(t / \sqrt\nu)$ the probability $A = P(|T| \le t)$ is a
finite sum (Abramowitz & Stegun 1964, 26.7.3 and 26.7.4),

$$A = \frac2\pi\Big(\theta + \sin\theta\,\big(\cos\theta + \tfrac23\cos^3\theta + \dots
  + \tfrac{2 \cdot 4 \cdots (\nu - 3)}{3 \cdot 5 \cdots (\nu - 2)}\cos^{\nu-2}\theta\big)\Big), \qquad
  A = \sin\theta\,\Big(1 + \tfrac12\cos^2\theta + \dots
  + \tfrac{1 \cdot 3 \cdots (\nu - 3)}{2 \cdot 4 \cdots (\nu - 2)}\cos^{\nu-2}\theta\Big),$$

for odd and even $\nu$. It is concave in $\theta$, since $A' = A'(0) \cos^{\nu-1}\theta$, so Newton's method
from $\theta = 0$ rises to the quantile. For many degrees of freedom the expansion around the normal quantile
$z$ (26.7.5) is exact to rounding.
"""

from __future__ import annotations

import math

import numpy as np

MANY = 1000
"""From so many degrees of freedom on, what the expansion leaves out is below rounding errors."""


def half_width(values: np.ndarray, level: float = 0.95) -> float:
    """Half the width of the confidence interval of a mean.

    Args:
        values: Independent values ``(n,)``.
        level: How often such intervals hold the mean.

    Returns:
        Infinity for a single value.
    """
    if values.size < 2:
        return math.inf
    return quantile(values.size - 1, level) * float(np.std(values, ddof=1)) / math.sqrt(values.size)


def quantile(freedom: float, level: float) -> float:
    r"""The $t$ with $P(|T| \le t)$ = ``level``, to 12 digits and more.

    Args:
        freedom: Degrees of freedom, at least 1. Between whole ones, where they are estimates anyway, $\log t$
            is taken for a linear function of their inverse, which is within 4 % of the truth.
        level: Between 0 and 1.
    """
    below = int(freedom)
    if below < freedom < MANY:
        share = (1 / below - 1 / freedom) * below * (below + 1)
        ends = quantile(below, level), quantile(below + 1, level)
        return math.exp((1 - share) * math.log(ends[0]) + share * math.log(ends[1]))
    freedom = below
    if freedom >= MANY:
        return _expanded(freedom, level)
    odd = freedom % 2
    # The ratios of successive coefficients: 2/3, 4/5, … or 1/2, 3/4, …
    numbers = np.arange(1 + odd, freedom - 2, 2)
    powers = np.arange(odd, freedom - 1, 2)  # none for a single degree of freedom
    coefficients = np.cumprod(np.append(1.0, numbers / (numbers + 1)))[: powers.size]
    slope = 2 / math.pi * (1 + coefficients.sum()) if odd else coefficients.sum()
    angle, before = 0.0, -1.0
    while angle > before:
        series = math.sin(angle) * float(coefficients @ math.cos(angle) ** powers)
        probability = 2 / math.pi * (angle + series) if odd else series
        before = angle
        angle += (level - probability) / (slope * math.cos(angle) ** (freedom - 1))
    return math.sqrt(freedom) * math.tan(before)


def _expanded(freedom: int, level: float) -> float:
    """The expansion in powers of one over the degrees of freedom."""
    from statistics import NormalDist

    z = NormalDist().inv_cdf((1 + level) / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(sum(term / freedom**power for power, term in enumerate(terms)))
