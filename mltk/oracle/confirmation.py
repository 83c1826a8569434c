"""The outputs of a case: computed in 50 digits, rounded once, confirmed by independent ways in float64."""

from __future__ import annotations

import dataclasses

import numpy as np

from mltk.errors import MltkError
from mltk.oracle.case import Case, Values, flat, mapped
from mltk.oracle.computation import Computation
from mltk.oracle.definitions.tensor import Tensor, constant
from mltk.oracle.tolerance import disagreement, tolerance

CHANGE = 2.0**-80
"""The relative change of the inputs that measures the condition of a case; 50 digits resolve its square."""


class VectorError(MltkError):
    """Independent ways disagree on a test vector, or a file of vectors is not valid."""


def complete(computation: Computation, case: Case) -> tuple[Case, dict[str, float]]:
    """A case with its outputs, whatever they were before, and how far each way in float64 is from them.

    Raises:
        VectorError: If a way disagrees by more than rounding errors can, or does not raise where it must.
    """
    if case.kind == "must-raise":
        return _refused(computation, case), {}
    # First, because they say what is wrong with inputs that must be refused.
    ways = {name: route(case.settings, case.inputs) for name, route in computation.routes.items()}
    exact = computation.exact(case.settings, case.inputs)
    expected = rounded(exact)
    condition = 1.0 if case.tie else _condition(computation, case, exact)
    cancellation = float(f"{computation.cancellation(case.settings, case.inputs, expected):.1e}")
    condition = max(condition, cancellation, case.least_condition)
    case = dataclasses.replace(case, expected=expected, raises=None, condition=condition)
    found = {}
    for name, outputs in ways.items():
        found[name] = disagreement(outputs, expected)
        allowed = tolerance(case, np.dtype(np.float64))
        if not found[name] <= allowed:
            raise VectorError(
                f"{computation.name}, {case.name}: {name} is {found[name]:.1e} from the 50-digit outputs; "
                f"expected at most {allowed:.1e}"
            )
    return case, found


def rounded(exact: Values) -> Values:
    """Outputs of 50 digits, to the nearest float64."""
    return mapped(lambda array: constant(array).double(), exact)


def _condition(computation: Computation, case: Case, exact: Values) -> float:
    """How much a small relative change of the inputs grows, measured in 50 digits; two digits are kept."""
    rng = np.random.default_rng(0)

    def changed(value: np.ndarray) -> np.ndarray:
        if value.dtype.kind != "f":
            return value
        scale = np.abs(value).max(initial=0.0)
        return (constant(value) + constant(CHANGE * scale * rng.uniform(-1, 1, value.shape))).value

    moved = computation.exact(case.settings, mapped(changed, case.inputs))
    before, after = flat(exact), flat(moved)
    growth = 1.0
    for group in exact:
        names = [name for name in before if name.partition(".")[0] == group]
        difference = max(_largest(constant(after[name]) - constant(before[name])) for name in names)
        scale = max(_largest(constant(before[name])) for name in names)
        if scale:
            growth = max(growth, difference / scale / CHANGE)
    return float(f"{growth:.1e}")


def _largest(tensor: Tensor) -> float:
    return float(max((abs(number) for number in tensor.value.flat), default=0))


def _refused(computation: Computation, case: Case) -> Case:
    """A case that must raise, with the class of the error that every way raises."""
    classes = set()
    for name, route in computation.routes.items():
        try:
            route(case.settings, case.inputs)
        except MltkError as error:
            classes.add(type(error).__name__)
        else:
            raise VectorError(f"{computation.name}, {case.name}: {name} accepts what must raise")
    if len(classes) != 1:
        raise VectorError(f"{computation.name}, {case.name}: the ways raise {', '.join(sorted(classes))}")
    return dataclasses.replace(case, raises=classes.pop(), condition=case.least_condition)
