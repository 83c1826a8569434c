"""How an entry of the catalogue is made from the inner loop: by turning its knobs or editing its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mltk.oracle.case import Values
from mltk.oracle.mistakes.loop import Loop
from mltk.oracle.mistakes.mistake import Family, Outputs, Variant

EXACT = ("maml", "anil", "boil", "meta-sgd")
UNROLLED = ("maml", "fomaml", "anil", "boil", "meta-sgd")
SUBSETS = ("anil", "boil")


def varied(detail: str = "", **knobs: Any) -> Variant:
    """The loop with some of its knobs turned."""
    return Variant(Loop(**knobs).outputs, detail)


def fitted(number: str, starts: tuple[float, ...], knobs: Callable[[float], dict[str, Any]]) -> Family:
    """The loop with knobs that depend on a number."""
    return Family(
        lambda settings, inputs, value: Loop(**knobs(value)).outputs(settings, inputs), number, starts
    )


def edited(change: Callable[[str, np.ndarray, Mapping[str, Any], Values], np.ndarray]) -> Outputs:
    """The right outputs with each gradient changed."""

    def outputs(settings: Mapping[str, Any], inputs: Values) -> Values | None:
        right = Loop().outputs(settings, inputs)
        if right is None:
            return None
        edited = {name: change(name, g, settings, inputs) for name, g in right["gradients"].items()}
        return {**right, "gradients": edited}

    return outputs
