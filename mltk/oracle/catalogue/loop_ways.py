"""What an inner loop gives with its knobs turned, or its outputs edited: ways of its mistakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from mltk.oracle.case import Deferred, Values
from mltk.oracle.catalogue.mistake import Family, Variant
from mltk.oracle.definitions.inner_loop import Unrolled, unrolled
from mltk.oracle.definitions.inner_loop_knobs import LoopKnobs, Settings
from mltk.oracle.definitions.tensor import double

Gradients = dict[str, np.ndarray]

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


def outputs(knobs: LoopKnobs, settings: Settings, inputs: Values) -> Values | None:
    """Loss and gradients, each the mean over tasks; ``None`` if the loop cannot be run so."""
    with np.errstate(all="ignore"):
        run = unrolled(knobs, settings, inputs, partial(double, varies=True))
    if run is None:
        return None
    return Deferred({"loss": run.loss.value, "gradients": partial(_gradients, run)})


def _gradients(run: Unrolled) -> Gradients:
    with np.errstate(all="ignore"):
        return {name: g.value for name, g in run.gradients().items()}


def varied(detail: str = "", **knobs: Any) -> Variant:
    """The loop with some of its knobs turned."""
    loop = LoopKnobs(**knobs)
    if knobs.keys() <= OF_THE_GRADIENT:
        return Variant(
            partial(outputs, loop), detail, gradient=lambda other: partial(outputs, replace(other, **knobs))
        )
    return Variant(partial(outputs, loop), detail, loop=None if knobs.keys() & OF_THE_GRADIENT else loop)


def fitted(number: str, starts: tuple[float, ...], knobs: Callable[[float], dict[str, Any]]) -> Family:
    """The loop with knobs that depend on a number."""
    of_the_gradient = knobs(starts[0]).keys() & OF_THE_GRADIENT
    return Family(
        lambda settings, inputs, value: outputs(LoopKnobs(**knobs(value)), settings, inputs),
        number,
        starts,
        None if of_the_gradient else lambda value: LoopKnobs(**knobs(value)),
    )


def changed(
    change: Callable[[Gradients, Settings, Values], Gradients],
    loop: LoopKnobs,
    settings: Settings,
    inputs: Values,
) -> Values | None:
    """The outputs of a loop with other gradients."""
    right = outputs(loop, settings, inputs)
    if right is None:
        return None
    return Deferred({**right, "gradients": lambda: change(right["gradients"], settings, inputs)})


def edited(change: Callable[[str, np.ndarray, Settings, Values], np.ndarray], detail: str = "") -> Variant:
    """The right outputs with each gradient changed."""

    def each(gradients: Gradients, settings: Settings, inputs: Values) -> Gradients:
        return {name: change(name, g, settings, inputs) for name, g in gradients.items()}

    return Variant(
        partial(changed, each, LoopKnobs()), detail, gradient=lambda loop: partial(changed, each, loop)
    )
