"""Comparing gradients, then timing turn by turn."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median, quantiles

import numpy as np

from mltk.benchmark.cases import in_double
from mltk.benchmark.contestants import NUMPY
from mltk.errors import UnsupportedError
from mltk.peers import Case, Peer, Result, to_numpy

SHORTEST_SAMPLE = 0.02
"""Seconds: a contestant that is faster than this is called several times a sample."""

TOLERANCE = 1e-3
"""Largest relative error of a float32 gradient. Rounding alone moves a pixel from one side of a ReLU or of a
maximum to the other now and then, which changes a gradient by more than rounding does."""


@dataclass(frozen=True)
class Row:
    """What was found about one contestant.

    Attributes:
        name: The contestant.
        skipped: Why it did not take part.
        failed: What it raised.
        error: Largest difference of its gradient from the reference, over the reference's largest entry.
        seconds: One entry a sample: seconds of one call.
        peak_bytes: Peak memory of one meta-gradient beyond what was in use before.
    """

    name: str
    skipped: str | None = None
    failed: str | None = None
    error: float | None = None
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
        return self.failed is not None or (self.error is not None and not self.error <= TOLERANCE)


def run(case: Case, contestants: Sequence[Peer], *, repeats: int) -> list[Row]:
    """Compare the gradients of all contestants with the reference and time them turn by turn.

    A contestant that is not installed, cannot express the model or raises an error gets a row that says so,
    and the others go on.

    Args:
        case: The meta-gradient.
        contestants: Who takes part.
        repeats: Samples of each.
    """
    _, reference = to_numpy(NUMPY.prepare(in_double(case))())
    rows: dict[str, Row] = {}
    calls: dict[str, Callable[[], Result]] = {}
    for contestant in contestants:
        row = Row(contestant.name, skipped=contestant.available())
        if row.skipped is None:
            try:
                call = contestant.prepare(case)
                _, grads = to_numpy(call())
            except UnsupportedError as error:
                row = replace(row, skipped=str(error))
            except Exception as error:  # another library's failure must not end the others' turns
                row = replace(row, failed=f"{type(error).__name__}: {error}")
            else:
                row = replace(row, error=relative_error(grads, reference))
                calls[row.name] = call
        rows[row.name] = row
    for name, seconds in time_in_turn(calls, repeats=repeats).items():
        rows[name] = replace(rows[name], seconds=tuple(seconds))
    return list(rows.values())


def relative_error(grads: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> float:
    """The largest difference over the largest entry of the reference; infinite if the names differ."""
    if grads.keys() != reference.keys():
        return math.inf
    scale = max(float(np.abs(array).max()) for array in reference.values())
    return max(float(np.abs(grads[name] - array).max()) for name, array in reference.items()) / scale


def time_in_turn(calls: dict[str, Callable[[], object]], *, repeats: int) -> dict[str, list[float]]:
    """Seconds of one call of each function, ``repeats`` samples, A B C A B C."""
    block = {name: max(1, math.ceil(SHORTEST_SAMPLE / _sample(call, 1))) for name, call in calls.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            samples[name].append(_sample(call, block[name]))
    return samples


def _sample(call: Callable[[], object], times: int) -> float:
    """Seconds of one call, measured over a block of them after one that brings caches and threads back."""
    call()
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - start) / times
    finally:
        gc.enable()
