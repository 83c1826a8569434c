"""The number with which a family of mistakes comes closest to outputs: a weight decay, a norm, a factor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

import numpy as np

from mltk.errors import MltkError
from mltk.oracle.case import Case, Values, flat
from mltk.oracle.mistakes.mistake import Family

CASES = 3
"""On how many cases a number is fitted; all of them judge the result."""

ITERATIONS = 20
SHORTER = (1.0, 0.5, 0.25, 0.1)
"""The shares of a step that are tried until one gains something."""

PROGRESS = 0.9
"""A step of the search that leaves more than this share of the residual is the last."""

Residual = Callable[[float], np.ndarray | None]


def fit(family: Family, basis: Sequence[tuple[Case, Values]], group: str) -> Iterator[float]:
    """Numbers worth a comparison: what comes closest to the outputs, and to them up to a scale.

    Args:
        family: The mistakes.
        basis: Cases and a candidate's outputs.
        group: Which of the outputs.
    """
    affected = list(islice(_affected(family, basis, group), CASES))
    for free in (False, True) if affected else ():
        residual = partial(_residual, family, affected, group, free)
        sizes = {start: _size(residual(start)) for start in family.starts}
        best = min(sizes, key=lambda start: sizes[start])
        if not np.isfinite(sizes[best]):
            continue
        number = _descend(residual, best)
        rounded = float(f"{number:.3g}")
        if abs(rounded - number) <= 1e-3 * abs(number):
            yield rounded
        yield number


def _affected(
    family: Family, basis: Sequence[tuple[Case, Values]], group: str
) -> Iterator[tuple[Case, np.ndarray]]:
    """The cases that the mistake changes, with the numbers of the candidate."""
    for case, outputs in basis:
        if group not in outputs:
            continue
        right = _numbers(case.expected, group)
        changed = [_made(family, case, start, group) for start in family.starts]
        if any(made is not None and not np.allclose(made, right, rtol=1e-9, atol=0) for made in changed):
            yield case, _numbers(outputs, group)


def _numbers(values: Values, group: str) -> np.ndarray:
    """All numbers of a group of outputs."""
    return np.concatenate([np.ravel(array) for array in flat({group: values[group]}).values()])


def _made(family: Family, case: Case, number: float, group: str) -> np.ndarray | None:
    try:
        outputs = family.outputs(case.settings, case.inputs, number)
    except (MltkError, ArithmeticError, np.linalg.LinAlgError):
        return None
    return None if outputs is None or group not in outputs else _numbers(outputs, group)


def _residual(
    family: Family, affected: Sequence[tuple[Case, np.ndarray]], group: str, free: bool, number: float
) -> np.ndarray | None:
    """The relative differences of a candidate's numbers to a mistake's, each case up to a scale if free."""
    parts = []
    for case, found in affected:
        made = _made(family, case, number, group)
        if made is None or not np.isfinite(made).all():
            return None
        square = made @ made
        scale = made @ found / square if free and square else 1.0
        parts.append((found - scale * made) / (np.abs(found).max(initial=0.0) or 1.0))
    return np.concatenate(parts)


def _size(residual: np.ndarray | None) -> float:
    return np.inf if residual is None else float(np.linalg.norm(residual))


def _descend(residual: Residual, number: float) -> float:
    """Gauss-Newton on one number with central differences; shorter steps where a whole one gains nothing."""
    size = _size(residual(number))
    for _ in range(ITERATIONS):
        change = 1e-6 * max(abs(number), 1e-3)
        centre, above, below = residual(number), residual(number + change), residual(number - change)
        if centre is None or above is None or below is None:
            break
        slope = (above - below) / (2 * change)
        square = slope @ slope
        if not np.isfinite(square) or not square:
            break
        step = float(slope @ centre / square)
        tried = ((moved, _size(residual(moved))) for moved in (number - share * step for share in SHORTER))
        better = next(((moved, left) for moved, left in tried if left < size), None)
        if better is None:
            break
        slow = better[1] > PROGRESS * size
        number, size = better
        if slow:
            break
    return number
