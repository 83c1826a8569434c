"""How an entry of the catalogue is made from the base implementation of heads: by turning its knobs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mltk.oracle.exact.head_knobs import Knobs
from mltk.oracle.exact.tensor import Tensor, constant
from mltk.oracle.mistakes.head import outputs
from mltk.oracle.mistakes.mistake import Family, Variant

PROTOTYPICAL = ("prototypical",)
MATCHING = ("matching", "matching-full-context")
FULL_CONTEXT = ("matching-full-context",)
RIDGE = ("ridge", "ridge-regression")
LOGISTIC = ("logistic",)
SOLVED = ("ridge", "logistic")
METRIC = (*PROTOTYPICAL, *MATCHING)
HEADS = (*METRIC, *SOLVED)
DISTANCES = ("pairwise-sqeuclidean",)
COSINES = ("pairwise-cosine-similarity",)


def turned(detail: str = "", **knobs: Any) -> Variant:
    """The right head with some of its knobs turned."""
    return Variant(partial(outputs, Knobs(**knobs)), detail)


def always(number: float) -> Callable[..., Tensor]:
    """A knob that puts a number in a place, whatever was there."""
    return lambda right, *_: constant(number, like=right)


def fitted(number: str, starts: tuple[float, ...], knobs: Callable[[float], dict[str, Any]]) -> Family:
    """The right head with knobs that depend on a number."""
    return Family(
        lambda settings, inputs, value: outputs(Knobs(**knobs(value)), settings, inputs), number, starts
    )
