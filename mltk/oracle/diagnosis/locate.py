"""Where an error sits that no known mistake explains: cases, outputs and tasks, direction or scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from mltk.errors import MltkError
from mltk.oracle.case import Case, Values, flat
from mltk.oracle.computation import Computation
from mltk.oracle.tolerance import disagreement, tolerance

ALIGNED = 1e-6
"""How far from one a cosine may be for a direction to count as right."""

NEAR_ONE = 1e-3
"""Factors so near to one are shown by how far they are from it."""

SHOWN = 4
"""How many wrong arrays of a group are described."""

PER_TASK = ("support_x", "support_y", "query_x", "query_y")


def locate(
    computation: Computation,
    basis: Sequence[tuple[Case, Values]],
    groups: Sequence[str],
    dtype: np.dtype[Any],
    run: Callable[[Case], Values | None] | None,
) -> tuple[str, ...]:
    """Lines that say where wrong outputs are wrong.

    Args:
        computation: What was computed.
        basis: Cases, and what a candidate returned for them.
        groups: The outputs that are wrong.
        dtype: The precision of the candidate.
        run: Runs the candidate on another case.
    """
    lines = list(_cases(basis, groups, dtype))
    for group in groups:
        lines += _parts(basis, group, dtype)
    if "gradients" in groups or "loss" in groups:
        lines += _tasks(computation, basis, dtype, run)
    return tuple(lines)


def _wrong(case: Case, outputs: Values, groups: Sequence[str], dtype: np.dtype[Any]) -> bool:
    return any(
        not disagreement({group: outputs[group]}, case.expected) <= tolerance(case, dtype)
        for group in groups
        if group in outputs
    )


def _cases(
    basis: Sequence[tuple[Case, Values]], groups: Sequence[str], dtype: np.dtype[Any]
) -> Iterator[str]:
    wrong = [case.name for case, outputs in basis if _wrong(case, outputs, groups, dtype)]
    right = [case.name for case, _ in basis if case.name not in wrong]
    yield f"wrong on: {', '.join(wrong)}" + (f"; right on: {', '.join(right)}" if right else "")


def _parts(basis: Sequence[tuple[Case, Values]], group: str, dtype: np.dtype[Any]) -> Iterator[str]:
    """Which arrays of a group are wrong, and whether in direction or scale."""
    compared: dict[str, list[tuple[float, float, float]]] = {}
    right: set[str] = set()
    for case, outputs in basis:
        if group not in outputs or not _wrong(case, outputs, (group,), dtype):
            continue
        found, expected = flat({group: outputs[group]}), flat({group: case.expected[group]})
        scale = max(np.abs(array).max(initial=0.0) for array in expected.values()) or 1.0
        whole = _compared(
            np.concatenate([np.ravel(found[name]) for name in expected]),
            np.concatenate([np.ravel(array) for array in expected.values()]),
            scale,
        )
        compared.setdefault(group, []).append(whole)
        for name, array in expected.items() if len(expected) > 1 else ():
            one = _compared(np.ravel(found[name]), np.ravel(array), scale)
            if one[0] > tolerance(case, dtype):
                compared.setdefault(name, []).append(one)
            else:
                right.add(name)
    if group in compared:
        yield f"{group}: {_described(compared.pop(group))}"
    worst = sorted(compared, key=lambda name: -max(error for error, _, _ in compared[name]))
    for name in worst[:SHOWN]:
        yield f"{name}: {_described(compared[name])}"
    if len(worst) > SHOWN:
        yield f"and {len(worst) - SHOWN} more: {', '.join(worst[SHOWN:])}"
    if always := sorted(right - compared.keys()):
        yield f"right: {', '.join(always)}"


def _compared(found: np.ndarray, expected: np.ndarray, scale: float) -> tuple[float, float, float]:
    """The relative error, the cosine to the truth and the quotient of the lengths."""
    lengths = float(np.linalg.norm(found)), float(np.linalg.norm(expected))
    cosine = float(found @ expected / (lengths[0] * lengths[1])) if all(lengths) else 0.0
    return (
        float(np.abs(found - expected).max(initial=0.0) / scale),
        cosine,
        lengths[0] / lengths[1] if lengths[1] else np.inf,
    )


def _described(entries: Sequence[tuple[float, float, float]]) -> str:
    errors, cosines, quotients = zip(*entries, strict=True)
    error = f"error up to {max(errors):.1e}"
    if not any(quotients):
        return f"{error}; it is zero"
    if all(abs(abs(cosine) - 1) <= ALIGNED for cosine in cosines):
        factors = [np.sign(cosine) * quotient for cosine, quotient in zip(cosines, quotients, strict=True)]
        return f"{error}; the direction is right, the scale is off by a factor of {_span(factors)}"
    return (
        f"{error}; the direction is wrong (cosine {_span(cosines)}), "
        f"the length {_span(quotients)} times the right one"
    )


def _span(numbers: Sequence[float]) -> str:
    low, high = min(numbers), max(numbers)
    near_one = max(abs(low - 1), abs(high - 1)) < NEAR_ONE
    if near_one:
        parts = (low - 1, high - 1)
        return (
            f"1 {_signed(parts[0])}"
            if np.isclose(*parts, rtol=1e-3)
            else " to ".join(map(_beside_one, parts))
        )
    return f"{low:.4g}" if np.isclose(low, high, rtol=1e-3) else f"{low:.4g} to {high:.4g}"


def _beside_one(rest: float) -> str:
    return f"1 {_signed(rest)}" if rest else "1"


def _signed(rest: float) -> str:
    """A small number behind its sign."""
    return f"{'-' if rest < 0 else '+'} {abs(rest):.1e}".replace("e-0", "e-")


def _tasks(
    computation: Computation,
    basis: Sequence[tuple[Case, Values]],
    dtype: np.dtype[Any],
    run: Callable[[Case], Values | None] | None,
) -> Iterator[str]:
    """Which tasks are wrong, on the first wrong case that has several."""
    for case, outputs in basis:
        if len(case.inputs.get("support_x", ())) < 2 or "gradients" not in outputs:
            continue
        if not _wrong(case, outputs, ("gradients", "loss"), dtype):
            continue
        try:
            alone = [_alone(computation, case, task) for task in range(len(case.inputs["support_x"]))]
        except MltkError:
            continue
        yield from _weights(case, outputs, alone, dtype)
        if run is not None:
            answers = [(each, run(each)) for each in alone]
            wrong = [
                str(task)
                for task, (each, found) in enumerate(answers)
                if found is not None and _wrong(each, found, tuple(found), dtype)
            ]
            if wrong:
                yield f"{case.name}: wrong on task {', '.join(wrong)} alone"
            elif any(found is not None for _, found in answers):
                yield f"{case.name}: right on each task alone, wrong on them together"
        return


def _alone(computation: Computation, case: Case, task: int) -> Case:
    """The case with one of its tasks."""
    inputs = {
        name: value[task : task + 1] if name in PER_TASK else value for name, value in case.inputs.items()
    }
    expected = computation.reference(case.settings, inputs)
    return dataclasses.replace(case, inputs=inputs, expected=expected)


def _weights(case: Case, outputs: Values, alone: Sequence[Case], dtype: np.dtype[Any]) -> Iterator[str]:
    """Whether the gradient is a sum over the tasks with other weights."""

    def numbers(values: Values) -> np.ndarray:
        return np.concatenate([np.ravel(array) for array in values["gradients"].values()])

    found = numbers(outputs)
    if any(numbers(each.expected).shape != found.shape for each in alone):
        return  # gradients of inputs, which are per task themselves
    columns = np.stack([numbers(each.expected) for each in alone], axis=1)
    weights, *_ = np.linalg.lstsq(columns, found, rcond=None)
    rest = np.abs(columns @ weights - found).max() / (np.abs(found).max() or 1.0)
    if len(found) > 2 * len(alone) and rest <= 100 * tolerance(case, dtype):
        near = np.abs(weights * len(alone) - 1).max() < NEAR_ONE
        shown = ", ".join(f"{weight:.4g}" for weight in weights)
        if near:
            shown = f"({_span([float(each) for each in weights * len(alone)])})/{len(alone)}"
        yield (
            f"{case.name}: the tasks' gradients are added with the weights {shown} "
            f"(expected 1/{len(alone)} each)"
        )
