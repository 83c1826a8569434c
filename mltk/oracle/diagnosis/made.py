"""What a mistake makes of a case; of what every diagnosis asks for, once for each case."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from weakref import WeakKeyDictionary

import numpy as np

from mltk.errors import MltkError
from mltk.oracle.case import Case, Values
from mltk.oracle.catalogue.mistake import Family, Outputs

Made = Callable[[Case], Values | None]
"""From a case to the outputs of a mistake; ``None`` where it cannot happen."""


def computed(outputs: Outputs) -> Made:
    """What a mistake gives in a case; ``None`` where that cannot be computed."""

    def of(case: Case) -> Values | None:
        try:
            return outputs(case.settings, case.inputs)
        except (MltkError, ArithmeticError, np.linalg.LinAlgError):
            return None

    return of


def remembered(outputs: Outputs) -> Made:
    """The same, computed once for each case as long as that is in use."""
    known: WeakKeyDictionary[Case, Values | None] = WeakKeyDictionary()
    compute = computed(outputs)

    def of(case: Case) -> Values | None:
        if case not in known:
            known[case] = compute(case)
        return known[case]

    return of


def numbered(family: Family, number: float) -> Made:
    """One of a family of mistakes; what a customary number gives is remembered."""
    if number in family.starts:
        return _customary(family, number)
    return computed(partial(family.outputs, value=number))


@cache
def _customary(family: Family, start: float) -> Made:
    return remembered(partial(family.outputs, value=start))
