"""Comparing gradients, then timing turn by turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from statistics import median, quantiles

import numpy as np

from mltk.benchmark.entrant import Entrant
from mltk.errors import UnsupportedError

SHORTEST_SAMPLE = 0.02
"""Seconds: a contestant that is faster than this is called several times a sample."""

TOLERANCE = 1e-3
"""Largest relative error of a float32 gradient that needs no second look."""

DOUBLE_TOLERANCE = 1e-8
"""Largest relative error of a float64 gradient."""


@dataclass(frozen=True)
class Row:
    """What was found about one contestant.

    Attributes:
        name: The contestant.
        skipped: Why it did not take part.
        failed: What it raised.
        error: Largest difference of its gradient from the reference, over the reference's largest entry.
        error_in_double: The same for its gradient in float64, which decides where ``error`` is large: now
            and then rounding alone moves a value across the kink of a ReLU or of a maximum, and the
            gradient jumps.
        seconds: One entry a sample: seconds of one call.
        peak_bytes: Peak memory of one meta-gradient beyond what was in use before.
    """

    name: str
    skipped: str | None = None
    failed: str | None = None
    error: float | None = None
    error_in_double: float | None = None
    seconds: tuple[float, ...] = ()
    peak_bytes: int | None = None

    @property
    def median(self) -> float | None:
        """Median seconds of one call."""
        return median(self.seconds) if self.seconds else None

    @property
    def quartiles(self) -> tuple[float, float] | None:
        """First and third quartile of the seconds of one call."""
        if len(self.seconds) < 2:
            return None
        first, _, third = quantiles(self.seconds, n=4, method="inclusive")
        return first, third

    @property
    def wrong(self) -> bool:
        """Whether it failed or its gradient disagrees with the reference."""
        disagrees = self.error_in_double is not None and not self.error_in_double <= DOUBLE_TOLERANCE
        return self.failed is not None or disagrees


def run(
    names: Iterable[str],
    start: Callable[[str], Entrant],
    reference: dict[str, np.ndarray],
    *,
    repeats: int,
) -> list[Row]:
    """Compare the gradients of all contestants with the reference and time them turn by turn, A B C A B C.

    A contestant that is not installed, cannot express the model or raises an error gets a row that says so,
    and the others go on.

    Args:
        names: Who takes part.
        start: Makes a contestant of a name ready; raises `UnsupportedError` if it cannot take part.
        reference: The right gradient.
        repeats: Samples of each.
    """
    rows: dict[str, Row] = {}
    entrants: dict[str, Entrant] = {}
    blocks: dict[str, int] = {}
    try:
        for name in names:
            rows[name] = Row(name)
            try:
                entrant = entrants[name] = start(name)
                error = relative_error(entrant.gradient, reference)
                rows[name] = replace(rows[name], error=error)
                if not error <= TOLERANCE:
                    error = relative_error(entrant.gradient_in_double(), reference)
                    rows[name] = replace(rows[name], error_in_double=error)
                blocks[name] = max(1, math.ceil(SHORTEST_SAMPLE / entrant.sample(1)))
            except UnsupportedError as error:
                rows[name] = replace(rows[name], skipped=str(error))
            except Exception as error:  # another library's failure must not end the others' turns
                rows[name] = replace(rows[name], failed=f"{type(error).__name__}: {error}")
        for _ in range(repeats):
            for name, block in blocks.items():
                seconds = entrants[name].sample(block)
                rows[name] = replace(rows[name], seconds=(*rows[name].seconds, seconds))
    finally:
        for entrant in entrants.values():
            entrant.close()
    return list(rows.values())


def relative_error(grads: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> float:
    """The largest difference over the largest entry of the reference; infinite if the names differ."""
    if grads.keys() != reference.keys():
        return math.inf
    scale = np.max([np.abs(array).max() for array in reference.values()])
    return float(np.max([np.abs(grads[name] - array).max() for name, array in reference.items()]) / scale)
