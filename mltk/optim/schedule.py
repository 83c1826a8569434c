"""Schedules: step sizes that depend on the number of steps done."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from mltk.checks import Checked, Count, CountOrZero, NonNegative, check_scale
from mltk.errors import SettingError


def check_rate(name: str, value: Any) -> None:
    """Raise `SettingError` unless the setting is a schedule or a finite step size that is not negative."""
    if not callable(value):
        check_scale(name, value)


LearningRate = Annotated[float | Callable[[int], float], check_rate]
"""A step size, or a function from the number of steps done (0 at the first) to one."""


def rate_at(learning_rate: LearningRate, step: int) -> float:
    """The step size after ``step`` steps."""
    return learning_rate(step) if callable(learning_rate) else learning_rate


@dataclass(frozen=True)
class Cosine(Checked):
    r"""Half a cosine from ``start`` down to ``end`` (Loshchilov & Hutter 2017, equation 5, no restarts).

    With $w$ warm-up steps and $n$ steps in all, the step size after $k$ steps is

    $$\text{start} \, \frac{k + 1}{w + 1} \quad (k < w), \qquad
      \text{end} + \frac{\text{start} - \text{end}}{2}
      \left(1 + \cos \frac{\pi (k - w)}{n - w}\right) \quad (w \le k \le n),$$

    and ``end`` from then on.

    Attributes:
        start: The largest step size.
        steps: $n$, warm-up included.
        end: The last step size.
        warmup: $w$, the steps of a linear rise before.

    Examples:
        >>> import mltk
        >>> schedule = mltk.optim.Cosine(0.1, steps=100)
        >>> round(schedule(0), 3), round(schedule(50), 3), round(schedule(100), 3)
        (0.1, 0.05, 0.0)
    """

    start: NonNegative
    steps: Count
    end: NonNegative = 0.0
    warmup: CountOrZero = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.warmup < self.steps:
            raise SettingError(
                f"warmup is {self.warmup!r}; expected at least 0 and less than steps, {self.steps!r}"
            )

    def __call__(self, step: int) -> float:
        """The step size after ``step`` steps."""
        if step < self.warmup:
            return self.start * (step + 1) / (self.warmup + 1)
        part = min((step - self.warmup) / (self.steps - self.warmup), 1.0)
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * part)) / 2


@dataclass(frozen=True)
class StepDecay(Checked):
    """A step size that is multiplied by ``factor`` after every ``every`` steps.

    Attributes:
        start: The first step size.
        every: Steps between two changes.
        factor: What it is multiplied by.

    Examples:
        >>> import mltk
        >>> schedule = mltk.optim.StepDecay(0.1, every=10, factor=0.5)
        >>> schedule(9), schedule(10), schedule(20)
        (0.1, 0.05, 0.025)
    """

    start: NonNegative
    every: Count
    factor: NonNegative = 0.1

    def __call__(self, step: int) -> float:
        """The step size after ``step`` steps."""
        return self.start * self.factor ** (step // self.every)
