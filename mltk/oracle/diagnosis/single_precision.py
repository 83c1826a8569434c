"""Single precision somewhere in a computation in double precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mltk.errors import MltkError
from mltk.oracle.case import Case, Values, mapped
from mltk.oracle.catalogue.training_recipes import SINGLE
from mltk.oracle.computation import Computation
from mltk.oracle.diagnosis.bases import Results
from mltk.oracle.diagnosis.explain import Finding
from mltk.oracle.tolerance import disagreement, tolerance

LEAST = 1e-11
"""Errors below are no single precision."""

CHANGE = 1e-9
"""A relative change of the inputs that single precision does not resolve."""

SMOOTH = 0.3
"""How far from the truth the outputs of smooth code may follow such a change, relative to how it does."""


def single_precision(
    computation: Computation,
    wrong: Results,
    groups: Sequence[str],
    dtype: np.dtype[Any],
    run: Callable[[Case], Values | None] | None,
) -> Finding | None:
    """Whether errors are roundings of single precision: of its size, and no smooth function of the inputs.

    Args:
        computation: What was computed.
        wrong: Cases with wrong outputs of a candidate.
        groups: The outputs that are wrong.
        dtype: The precision of the candidate.
        run: Runs the candidate on another case; without it nothing can be said.
    """
    if run is None or dtype != np.float64:
        return None
    single = np.dtype(np.float32)
    errors = [
        (disagreement({group: outputs[group]}, case.expected), tolerance(case, single))
        for case, outputs in wrong
        for group in groups
        if group in outputs
    ]
    if not all(error <= allowed for error, allowed in errors) or max(errors)[0] < LEAST:
        return None
    case, outputs = min(wrong, key=lambda each: sum(a.size for a in _floats(each[0].inputs)))
    moved = _moved(case.inputs)
    try:
        truth = computation.reference(case.settings, moved)
    except MltkError:
        return None
    found = run(
        Case(case.name, case.kind, case.comment, case.settings, moved, truth, condition=case.condition)
    )
    if found is None or not any(_erratic(group, case, outputs, found, truth) for group in groups):
        return None
    return Finding(
        SINGLE.name,
        "",
        None,
        tuple(groups),
        max(error for error, _ in errors),
        max(error for error, _ in errors),
        len(wrong),
        SINGLE.summary,
        SINGLE.cause,
    )


def _erratic(group: str, case: Case, before: Values, after: Values, truth: Values) -> bool:
    """Whether the error of a group changes by about as much as it is, or outputs do not follow at all."""
    if group not in before or group not in after:
        return False
    own = [b - a for a, b in zip(_floats(before[group]), _floats(after[group]), strict=True)]
    right = [b - a for a, b in zip(_floats(case.expected[group]), _floats(truth[group]), strict=True)]
    size = max((np.abs(array).max(initial=0.0) for array in right), default=0.0)
    off = max((np.abs(a - b).max(initial=0.0) for a, b in zip(own, right, strict=True)), default=0.0)
    return bool(off > SMOOTH * size > 0)


def _floats(values: Any) -> list[np.ndarray]:
    if isinstance(values, dict):
        return [array for value in values.values() for array in _floats(value)]
    array = np.asarray(values)
    return [array] if array.dtype.kind == "f" else []


def _moved(values: Values) -> Values:
    """Each number larger by a share that depends on its place."""

    def moved(value: np.ndarray) -> np.ndarray:
        if value.dtype.kind != "f":
            return value
        return value * (1 + CHANGE * np.cos(np.arange(value.size)).reshape(value.shape))

    return mapped(moved, values)
