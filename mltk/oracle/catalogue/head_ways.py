"""What heads, the ridge solver and similarities give with their knobs turned: ways of their mistakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from mltk.errors import UnsupportedError
from mltk.oracle.case import Deferred, Values
from mltk.oracle.catalogue.mistake import Family, Variant
from mltk.oracle.definitions import linear_heads, metric_heads
from mltk.oracle.definitions.hardness import hardness
from mltk.oracle.definitions.head_knobs import Knobs, Settings, impossible
from mltk.oracle.definitions.heads import Definition, Traced, judged, pairs, ridge_regression
from mltk.oracle.definitions.tensor import Tensor, constant, double

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
HARDNESS = ("hardness",)


OF_LOSS = {"finish", "swapped", "smoothing", "squared_error", "by_class", "factor", "gradient"}
OF_COSINE = {"compared", "sides", "epsilon", "epsilon_inside", "temperature"}
OF_MATCHING = OF_LOSS | OF_COSINE | {"attended", "log_epsilon"}
OF_LINEAR = OF_LOSS | {"unit_first", "penalty", "target", "scale", "shift", "solver"}

KNOWN: dict[str, tuple[Definition, set[str]]] = {
    "similarity": (pairs, {"compared", "sides", "epsilon", "epsilon_inside", "gradient"}),
    "distance": (judged(metric_heads.prototypical), OF_LOSS | OF_COSINE | {"unit_first", "prototypes"}),
    "processing_steps": (judged(metric_heads.full_context), OF_MATCHING | {"context", "more_steps"}),
    "steps": (judged(linear_heads.logistic), OF_LINEAR | {"more_steps"}),
    "intercept": (judged(linear_heads.ridge), OF_LINEAR | {"system", "intercept"}),
    "bias": (
        ridge_regression,
        {"penalty", "system", "intercept", "target", "scale", "gradient", "unit_first"},
    ),
    "relu_queries": (
        hardness,
        {"odds", "rectified", "sides", "temperature", "unit_first"},
    ),
    "temperature": (judged(metric_heads.matching), OF_MATCHING),
}
"""The definitions with the knobs that they have, under a setting that no definition after them has."""


def outputs(knobs: Knobs, settings: Settings, inputs: Values) -> Values | None:
    """What a computation gives with its knobs turned; ``None`` where the mistake cannot happen."""
    definition, known = next(found for mark, found in KNOWN.items() if mark in settings)
    with np.errstate(all="ignore"):
        try:
            if knobs.turned - known:
                raise impossible(f"there is no {', '.join(knobs.turned - known)}")
            traced = definition(knobs, settings, inputs, partial(double, varies=True))
            found = {name: output.value for name, output in traced.outputs.items()}
            if knobs.gradient is not None:
                return {**found, "gradients": _changed(knobs, traced)}
        except UnsupportedError:
            return None
    return Deferred({**found, "gradients": lambda: _gradients(traced)})


def _gradients(traced: Traced) -> dict[str, np.ndarray]:
    with np.errstate(all="ignore"):
        return {name: g.value for name, g in traced.gradients().items()}


def _changed(knobs: Knobs, traced: Traced) -> Mapping[str, Any]:
    """The gradients after a change, which must find something to change."""
    right = _gradients(traced)
    assert knobs.gradient is not None
    changed = {name: knobs.gradient(name, g, traced.leaves[name].value) for name, g in right.items()}
    if all(changed[name] is g for name, g in right.items()):
        raise impossible("no gradient is changed")
    return changed


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
