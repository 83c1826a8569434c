"""What heads, the ridge solver and similarities give with their knobs turned: logits, loss and gradients."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from mltk.errors import UnsupportedError
from mltk.oracle.case import Deferred, Values
from mltk.oracle.exact import linear_heads, metric_heads
from mltk.oracle.exact.head_knobs import Knobs, Settings, impossible
from mltk.oracle.exact.heads import Definition, Traced, judged, pairs, ridge_regression
from mltk.oracle.exact.tensor import double

LOSS = {"finish", "swapped", "smoothing", "squared_error", "by_class", "factor", "gradient"}
COSINE = {"compared", "sides", "epsilon", "epsilon_inside", "temperature"}
MATCHING = LOSS | COSINE | {"attended", "log_epsilon"}
LINEAR = LOSS | {"unit_first", "penalty", "target", "scale", "shift", "solver"}

KNOWN: dict[str, tuple[Definition, set[str]]] = {
    "similarity": (pairs, {"compared", "sides", "epsilon", "epsilon_inside", "gradient"}),
    "distance": (judged(metric_heads.prototypical), LOSS | COSINE | {"unit_first", "prototypes"}),
    "processing_steps": (judged(metric_heads.full_context), MATCHING | {"context", "more_steps"}),
    "steps": (judged(linear_heads.logistic), LINEAR | {"more_steps"}),
    "intercept": (judged(linear_heads.ridge), LINEAR | {"system", "intercept"}),
    "bias": (
        ridge_regression,
        {"penalty", "system", "intercept", "target", "scale", "gradient", "unit_first"},
    ),
    "temperature": (judged(metric_heads.matching), MATCHING),
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
