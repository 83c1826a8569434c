"""What heads, the ridge solver and similarities give with their knobs turned: logits, loss and gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mltk.errors import UnsupportedError
from mltk.oracle.case import Values
from mltk.oracle.mistakes.complex_step import Deferred, gradients_of, values
from mltk.oracle.mistakes.knobs import Array, Examples, Knobs, impossible
from mltk.oracle.mistakes.linear_heads import logistic, penalty, ridge, solve_ridge
from mltk.oracle.mistakes.metric_heads import full_context, matching, prototypical, similarities, softmax

Settings = Mapping[str, Any]

LOSS = {"finish", "swapped", "smoothing", "squared_error", "by_class", "factor", "gradient"}
COSINE = {"compared", "sides", "epsilon", "epsilon_inside", "temperature"}
MATCHING = LOSS | COSINE | {"attended", "log_epsilon"}
LINEAR = LOSS | {"unit_first", "penalty", "target", "scale", "shift", "solver"}

Logits = Callable[[Knobs, Settings, Examples], Array]

HEADS: dict[str, tuple[Logits, set[str]]] = {
    "prototypical": (prototypical, LOSS | COSINE | {"unit_first", "prototypes"}),
    "matching": (matching, MATCHING),
    "matching-full-context": (full_context, MATCHING | {"context", "more_steps"}),
    "ridge": (ridge, LINEAR | {"system", "intercept"}),
    "logistic": (logistic, LINEAR | {"more_steps"}),
}
"""Each with the knobs that it has."""

RIDGE_REGRESSION = {"penalty", "system", "intercept", "target", "scale", "gradient", "unit_first"}
PAIRS = {"compared", "sides", "epsilon", "epsilon_inside", "gradient"}


def outputs(knobs: Knobs, settings: Settings, inputs: Values) -> Values | None:
    """What a computation gives with its knobs turned; ``None`` where the mistake cannot happen."""
    computation = _computation(settings, inputs)
    with np.errstate(all="ignore"):
        try:
            if computation in HEADS:
                logits, known = HEADS[computation]
                return _judged(_fitting(knobs, known), logits, settings, inputs)
            if computation == "ridge-regression":
                return _ridge_regression(_fitting(knobs, RIDGE_REGRESSION), settings, inputs)
            return _pairs(_fitting(knobs, PAIRS), settings["similarity"] == "cosine", inputs)
        except UnsupportedError:
            return None


def _computation(settings: Settings, inputs: Values) -> str:
    """Which one it is, by what it alone has."""
    marks = {
        "similarity": "pairwise",
        "distance": "prototypical",
        "processing_steps": "matching-full-context",
        "steps": "logistic",
        "intercept": "ridge",
        "bias": "ridge-regression",
    }
    return next((name for mark, name in marks.items() if mark in settings), "matching")


def _fitting(knobs: Knobs, known: set[str]) -> Knobs:
    if knobs.turned - known:
        raise impossible(f"there is no {', '.join(knobs.turned - known)}")
    return knobs


def _judged(knobs: Knobs, logits: Logits, settings: Settings, inputs: Values) -> Values:
    """Logits, loss and gradients of a head."""
    ways, params = settings["ways"], inputs.get("params", {})
    if ways is None and knobs.turned & {"finish", "smoothing", "squared_error", "by_class"}:
        raise impossible("there are no classes")
    part = "support" if knobs.swapped else "query"
    judged_on = inputs[f"{part}_y"]

    def one_hot(y: np.ndarray) -> np.ndarray:
        return y if ways is None else (y[..., None] == np.arange(ways)).astype(float)

    if knobs.swapped and ways and not one_hot(inputs["query_y"]).any(1).all():
        raise impossible("a class has no query")

    def function(leaves: dict[str, Array]) -> tuple[dict[str, Array], Array]:
        learned = {name: leaves[name] for name in params}
        examples = Examples(
            leaves["support_x"],
            one_hot(inputs["support_y"]),
            leaves["query_x"],
            one_hot(inputs["query_y"]),
            learned,
        )
        if knobs.swapped:
            examples = examples.exchanged()
        z = logits(knobs, settings, examples)
        if knobs.factor is not None:
            z = knobs.factor(examples.query.shape[-1]) * z
        if knobs.finish == "softmax":
            z = softmax(z)
        elif knobs.finish == "log-softmax":
            z = np.log(softmax(z))
        return {"logits": z}, _loss(knobs, z, one_hot(judged_on), labels=ways is not None)

    leaves = {"support_x": inputs["support_x"], "query_x": inputs["query_x"], **params}
    found, loss = values(function, leaves)
    made: Values = {"loss": loss}
    if found["logits"].shape[1] == inputs["query_y"].shape[1]:
        made = {**found, **made}
    if knobs.gradient is not None:
        return {**made, "gradients": _changed(knobs, gradients_of(function, leaves), leaves)}

    def gradients() -> dict[str, np.ndarray]:
        with np.errstate(all="ignore"):
            return gradients_of(function, leaves)

    return Deferred({**made, "gradients": gradients})


def _loss(knobs: Knobs, z: Array, target: np.ndarray, *, labels: bool) -> Array:
    """The mean loss of each copy."""
    if not labels or knobs.squared_error:
        error = z - target
        return (error * error).mean((1, 2, 3))
    if knobs.smoothing is not None:
        target = (1 - knobs.smoothing) * target + knobs.smoothing / target.shape[-1]
    shifted = z - z.real.max(-1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(-1)) * target.sum(-1) - (target * shifted).sum(-1)
    if knobs.by_class:
        counts = target.sum(-2, keepdims=True)
        shares = target / np.where(counts > 0, counts, 1) / (counts > 0).sum(-1, keepdims=True)
        return (losses * shares.sum(-1)).sum(-1).mean(1)
    return losses.mean((1, 2))


def _changed(
    knobs: Knobs, gradients: Mapping[str, np.ndarray], leaves: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The gradients; a change of them must find something to change."""
    if knobs.gradient is None:
        return dict(gradients)
    changed = {name: knobs.gradient(name, g, leaves[name]) for name, g in gradients.items()}
    if all(changed[name] is g for name, g in gradients.items()):
        raise impossible("no gradient is changed")
    return changed


def _ridge_regression(knobs: Knobs, settings: Settings, inputs: Values) -> Values:
    """Weight and bias of the ridge solver, and what their cotangents pull back to."""
    ways = settings["ways"]
    if knobs.target is not None and ways is None:
        raise impossible("the targets are values")
    y = inputs["targets"]
    y = y if ways is None else (y[..., None] == np.arange(ways)).astype(float)
    y = y if knobs.target is None else knobs.target(y)
    scale = np.asarray(settings["scale"])
    scale = scale if knobs.scale is None else knobs.scale(scale)

    def function(leaves: dict[str, Array]) -> tuple[dict[str, Array], Array]:
        x = leaves["embeddings"]
        if knobs.unit_first:
            x = x / np.sqrt((x * x).sum(-1, keepdims=True))
        right = np.asarray(settings["reg_lambda"])
        if "reg_lambda" in leaves:
            learned = leaves["reg_lambda"]
            right = learned.reshape(len(learned), -1, 1, 1)
        weight, bias = solve_ridge(knobs, x, y, penalty(knobs, right, x), intercept=settings["bias"])
        weight = scale * weight.mT
        bias = scale * np.broadcast_to(bias[..., 0, :], weight.shape[:-1])
        product = (weight * inputs["g_weight"]).sum((1, 2, 3)) + (bias * inputs["g_bias"]).sum((1, 2))
        return {"weight": weight, "bias": bias}, product

    leaves = {"embeddings": inputs["embeddings"], **inputs.get("params", {})}
    (found, _), gradients = values(function, leaves), gradients_of(function, leaves)
    return {**found, "gradients": _changed(knobs, gradients, leaves)}


def _pairs(knobs: Knobs, cosine: bool, inputs: Values) -> Values:
    """Similarities of all pairs, and what their cotangent pulls back to."""
    sign = 1 if cosine else -1  # distances, and not the logits that they become

    def function(leaves: dict[str, Array]) -> tuple[dict[str, Array], Array]:
        value = sign * similarities(knobs, leaves["a"], leaves["b"], cosine=cosine)
        return {"value": value}, (value * inputs["gy"]).sum((1, 2, 3))

    leaves = {"a": inputs["a"], "b": inputs["b"]}
    (found, _), gradients = values(function, leaves), gradients_of(function, leaves)
    return {**found, "gradients": _changed(knobs, gradients, leaves)}
