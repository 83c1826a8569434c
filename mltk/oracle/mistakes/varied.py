"""How an entry of the catalogue is made from the inner loop: by turning its knobs or editing its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mltk.oracle.case import Deferred, Values
from mltk.oracle.mistakes.loop import Loop
from mltk.oracle.mistakes.mistake import Family, Outputs, Variant

EXACT = ("maml", "anil", "boil", "meta-sgd", "maml-learned-rates")
UNROLLED = ("maml", "fomaml", "anil", "boil", "meta-sgd", "maml-learned-rates")
SUBSETS = ("anil", "boil")
RATES = ("meta-sgd", "maml-learned-rates")
REPTILE = ("reptile",)
MOVING = (*UNROLLED, *REPTILE)
"""All that descend in an inner loop."""
NORMALISED = ("maml", "fomaml", "anil", "boil", "meta-sgd", "reptile")
"""Those of them that have cases with batch norm."""


OF_THE_GRADIENT = {"hessian", "pollutes", "pollutes_all", "pollution_sum"}
"""The knobs that leave the loss as it is."""


def varied(detail: str = "", **knobs: Any) -> Variant:
    """The loop with some of its knobs turned."""
    loop = Loop(**knobs)
    if knobs.keys() <= OF_THE_GRADIENT:
        return Variant(loop.outputs, detail, gradient=lambda other: replace(other, **knobs).outputs)
    return Variant(loop.outputs, detail, loop=None if knobs.keys() & OF_THE_GRADIENT else loop)


def fitted(number: str, starts: tuple[float, ...], knobs: Callable[[float], dict[str, Any]]) -> Family:
    """The loop with knobs that depend on a number."""

    def outputs(settings: Mapping[str, Any], inputs: Values, value: float) -> Values | None:
        return Loop(**knobs(value)).outputs(settings, inputs)

    of_the_gradient = knobs(starts[0]).keys() & OF_THE_GRADIENT
    return Family(outputs, number, starts, None if of_the_gradient else lambda value: Loop(**knobs(value)))


def edited(
    change: Callable[[str, np.ndarray, Mapping[str, Any], Values], np.ndarray], detail: str = ""
) -> Variant:
    """The right outputs with each gradient changed."""

    def of(loop: Loop) -> Outputs:
        def outputs(settings: Mapping[str, Any], inputs: Values) -> Values | None:
            right = loop.outputs(settings, inputs)
            if right is None:
                return None

            def gradients() -> dict[str, np.ndarray]:
                return {name: change(name, g, settings, inputs) for name, g in right["gradients"].items()}

            return Deferred({**right, "gradients": gradients})

        return outputs

    return Variant(of(Loop()), detail, gradient=of)
