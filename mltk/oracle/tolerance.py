"""How far outputs are from the expected ones, and how far they may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mltk.oracle.case import Case, flat

ROUNDINGS = 256
"""How many rounding errors, each grown by the condition of a case, outputs may be away."""


def disagreement(outputs: Mapping[str, Any], expected: Mapping[str, Any]) -> float:
    """The largest difference, relative to the largest number of its group; infinite for NaN.

    Args:
        outputs: Arrays and groups of arrays, of the names and shapes of those in ``expected``; some may miss.
        expected: What they are compared with.
    """
    worst = 0.0
    for key, found in outputs.items():
        a, b = flat({key: found}), flat({key: expected[key]})
        scale = max(np.abs(array).max(initial=0.0) for array in b.values()) if b else 0.0
        for name, array in b.items():
            with np.errstate(all="ignore"):  # infinities, which are judged below
                difference = np.abs(a[name] - array).max(initial=0.0) / (scale or 1.0)
            worst = max(worst, float(difference) if np.isfinite(difference) else np.inf)
    return worst


def tolerance(case: Case, dtype: np.dtype[Any]) -> float:
    """The disagreement that rounding errors of a precision explain."""
    return float(ROUNDINGS * np.finfo(dtype).eps * case.condition)
