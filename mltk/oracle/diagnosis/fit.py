"""The number with which a family of mistakes comes closest to outputs: a weight decay, a norm, a factor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import pairwise

import numpy as np

from mltk.oracle.case import Case, Values, flat
from mltk.oracle.catalogue.mistake import Family
from mltk.oracle.diagnosis.made import numbered
from mltk.oracle.tolerance import disagreement, tolerance

CASES = 2
"""On how many cases a number is fitted; all of them judge the result."""

CLEARLY = 100
"""How many times the tolerance a candidate must be wrong there."""

REACH = 4.0
"""How far beyond the outermost start a number is looked for, as a factor."""

ALIKE = 1 + 1e-9
"""Distances up to this quotient differ by rounding errors alone."""

DOUBLE = np.dtype(np.float64)
SEARCHES = 10
POLISHES = 4
HUGE = 1e100

Residual = Callable[[float], np.ndarray | None]


def fit(family: Family, basis: Sequence[tuple[Case, Values]], group: str) -> Iterator[float]:
    """Numbers worth a comparison: what comes closest to the outputs, and to them up to a scale.

    Args:
        family: The mistakes.
        basis: Cases and a candidate's outputs.
        group: Which of the outputs.
    """
    wrong = sorted(_wrong(basis, group), key=lambda each: each[1].size)[:CASES]
    truth = [_numbers(case.expected, group) for case, _ in wrong]
    made = cache(lambda number: [_made(family, case, number, group) for case, _ in wrong])
    for free in (False, True) if wrong else ():
        residual = partial(_residual, wrong, made, free)
        sizes = {start: _size(residual(start)) for start in family.starts}
        # Limits that nothing reaches are all alike; the smallest is next to those that something does.
        nearest = min(sizes.values()) * ALIKE
        best = min(start for start, distance in sizes.items() if distance <= nearest)
        if not sizes[best] <= _size(_off(wrong, truth, free)) * ALIKE:  # no start is nearer than the truth
            continue
        number = _nearest(residual, best, family.starts)
        rounded = float(f"{number:.3g}")
        if abs(rounded - number) <= 1e-3 * abs(number):
            yield rounded
        yield number


def _wrong(basis: Sequence[tuple[Case, Values]], group: str) -> Iterator[tuple[Case, np.ndarray]]:
    """The cases on which a candidate is clearly wrong, with its numbers."""
    for case, outputs in basis:
        error = disagreement({group: outputs[group]}, case.expected) if group in outputs else 0.0
        if error > CLEARLY * tolerance(case, DOUBLE):
            yield case, _numbers(outputs, group)


def _numbers(values: Values, group: str) -> np.ndarray:
    """All numbers of a group of outputs."""
    return np.concatenate([np.ravel(array) for array in flat({group: values[group]}).values()])


def _made(family: Family, case: Case, number: float, group: str) -> np.ndarray | None:
    outputs = numbered(family, number)(case)
    return None if outputs is None or group not in outputs else _numbers(outputs, group)


def _residual(
    wrong: Sequence[tuple[Case, np.ndarray]],
    made: Callable[[float], Sequence[np.ndarray | None]],
    free: bool,
    number: float,
) -> np.ndarray | None:
    """The relative differences of a candidate's numbers to a mistake's, each case up to a scale if free."""
    return _off(wrong, made(number), free)


def _off(
    wrong: Sequence[tuple[Case, np.ndarray]], outputs: Sequence[np.ndarray | None], free: bool
) -> np.ndarray | None:
    parts = []
    for (_, found), made in zip(wrong, outputs, strict=True):
        if made is None or not np.isfinite(made).all():
            return None
        square = made @ made
        scale = made @ found / square if free and square else 1.0
        parts.append((found - scale * made) / (np.abs(found).max(initial=0.0) or 1.0))
    return np.concatenate(parts)


def _size(residual: np.ndarray | None) -> float:
    return np.inf if residual is None else float(np.linalg.norm(residual))


def _nearest(residual: Residual, best: float, starts: Sequence[float]) -> float:
    """The number of the smallest residual between the starts beside the best one.

    A bounded search gets close, over the kinks that clipping has, and Gauss-Newton reaches rounding error:
    a step that does not halve the distance is the last, as there is none to reach, or nothing left of it.
    """
    from scipy.optimize import minimize_scalar

    around = sorted({*starts, *(best * factor for factor in (-REACH, 1 / REACH, REACH))})
    place = around.index(best)
    found = [
        minimize_scalar(
            lambda number: min(_size(residual(float(number))), HUGE) ** 2,
            bounds=bounds,
            method="bounded",
            options={"maxiter": SEARCHES},
        )
        for bounds in pairwise(around[max(place - 1, 0) : place + 2])
    ]
    number = float(min(found, key=lambda each: each.fun).x)
    tried = [best]
    for _ in range(POLISHES):
        centre = residual(number)
        if centre is None or (len(tried) > 1 and not _size(centre) < _size(residual(tried[-1])) / 2):
            break
        tried.append(number)
        change = 1e-6 * abs(number)
        above, below = residual(number + change), residual(number - change)
        if above is None or below is None:
            break
        slope = above - below
        square = slope @ slope
        if not np.isfinite(square) or not square:
            break
        number -= 2 * change * float(slope @ centre / square)
    return min((number, *reversed(tried)), key=lambda each: _size(residual(each)))
