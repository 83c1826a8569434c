"""Comparing gradients, then timing turn by turn."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from statistics import median, quantiles
from timeit import timeit
from typing import Any, Protocol

import numpy as np

from mltk.errors import UnsupportedError

SHORTEST_SAMPLE = 0.02
"""Seconds: a contestant that is faster than this is called several times a sample."""

TOLERANCE = 1e-3
"""Largest relative error of a float32 gradient that needs no second look."""

DOUBLE_TOLERANCE = 1e-8
"""Largest relative error of a float64 gradient."""

Sample = Callable[[int], float]
"""Gives the seconds of one call, measured over a block of so many."""


class Entrant(Protocol):
    """A contestant that is ready to be timed.

    Attributes:
        gradient: What it computes, under dotted names.
    """

    gradient: dict[str, np.ndarray]

    def gradient_in_double(self) -> dict[str, np.ndarray]:
        """The gradient of the same numbers in float64."""

    def sample(self, times: int) -> float:
        """Seconds of one call, measured over a block of ``times`` calls."""

    def close(self) -> None:
        """End it."""


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
    names: Iterable[str], start: Callable[[str], Entrant], reference: dict[str, np.ndarray], *, repeats: int
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
                blocks[name] = block(entrant.sample)
            except UnsupportedError as error:
                rows[name] = replace(rows[name], skipped=str(error))
            except Exception as error:  # another library's failure must not end the others' turns
                rows[name] = replace(rows[name], failed=f"{type(error).__name__}: {error}")
        seconds = in_turn({name: entrants[name].sample for name in blocks}, blocks, repeats)
    finally:
        for entrant in entrants.values():
            entrant.close()
    return [replace(row, seconds=seconds.get(name, ())) for name, row in rows.items()]


def time_in_turn(calls: Mapping[str, Callable[[], Any]], repeats: int) -> list[Row]:
    """Time calls turn by turn, A B C A B C."""
    samples = {name: partial(seconds_of, call) for name, call in calls.items()}
    blocks = {name: block(sample) for name, sample in samples.items()}
    return [Row(name, seconds=seconds) for name, seconds in in_turn(samples, blocks, repeats).items()]


def in_turn(
    samples: Mapping[str, Sample], blocks: Mapping[str, int], repeats: int
) -> dict[str, tuple[float, ...]]:
    """So many samples of each, turn by turn, over a block of calls each."""
    turns = [{name: sample(blocks[name]) for name, sample in samples.items()} for _ in range(repeats)]
    return {name: tuple(turn[name] for turn in turns) for name in samples}


def block(sample: Sample) -> int:
    """Over how many calls a sample is measured."""
    return max(1, math.ceil(SHORTEST_SAMPLE / sample(1)))


def seconds_of(call: Callable[[], object], times: int) -> float:
    """Seconds of one call, measured over a block; a call before the block brings caches and threads back."""
    call()
    gc.collect()
    return timeit(call, number=times) / times  # which lets no garbage be collected meanwhile


def relative_error(grads: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> float:
    """The largest difference over the largest entry of the reference; infinite if the names differ."""
    if grads.keys() != reference.keys():
        return math.inf
    scale = np.max([np.abs(array).max() for array in reference.values()])
    return float(np.max([np.abs(grads[name] - array).max() for name, array in reference.items()]) / scale)
