"""An estimate, how far it may be off, and for which population."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """An estimate with a confidence interval, and what would be drawn anew.

    Attributes:
        estimate: The estimate.
        low: Where the interval begins; minus infinity where nothing is known.
        high: Where it ends.
        over: What it is over: ``"tasks"``, ``"classes"``, ``"groups"``, ``"seeds"`` or
            ``"seeds and classes"``.
        level: How often such intervals hold what is estimated.
        units: How many of ``over`` there were; ``None`` if that is not one number.

    Examples:
        >>> import mltk
        >>> print(mltk.evaluation.Interval(0.5, 0.4, 0.7, "classes", units=20))
        0.50 [0.40, 0.70] (95 % interval over 20 classes)
    """

    estimate: float
    low: float
    high: float
    over: str
    level: float = 0.95
    units: int | None = None

    def __str__(self) -> str:
        width = (self.high - self.low) / 2
        decimals = max(0, 1 - math.floor(math.log10(width))) if 0 < width < math.inf else 3
        estimate, low, high = (f"{bound:.{decimals}f}" for bound in (self.estimate, self.low, self.high))
        units = "" if self.units is None else f"{self.units} "
        return f"{estimate} [{low}, {high}] ({100 * self.level:g} % interval over {units}{self.over})"
