"""Heads, the ridge solver and similarities: definitions with knobs, differentiated automatically."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from mltk.oracle.case import Values
from mltk.oracle.computation import Route
from mltk.oracle.definitions.head_knobs import Examples, Knobs, Settings, impossible
from mltk.oracle.definitions.linear_heads import least_squares, penalty
from mltk.oracle.definitions.metric_heads import similarities, unit
from mltk.oracle.definitions.network import cross_entropy, mse, one_hot, softmax
from mltk.oracle.definitions.tensor import DIGITS, Tensor, constant, grad_once, variable

NOISE = 10.0 ** (10 - DIGITS)

Logits = Callable[[Knobs, Settings, Examples], Tensor]
Leaf = Callable[[np.ndarray], Tensor]
"""From an array to what is differentiated, in the precision of the computation."""


class Traced(NamedTuple):
    """Outputs, and what their gradients are taken of.

    Attributes:
        leaves: What the gradients are for.
        outputs: Those that are no gradients.
        number: What they are of.
    """

    leaves: dict[str, Tensor]
    outputs: dict[str, Tensor]
    number: Tensor

    def gradients(self) -> dict[str, Tensor]:
        """The gradients under the names of the leaves."""
        found = grad_once(self.number, list(self.leaves.values()))
        return dict(zip(self.leaves, found, strict=True))


Definition = Callable[[Knobs, Settings, Values, Leaf], Traced]


def truth(definition: Definition) -> Route:
    """What a definition gives in 50 digits, with no knob turned."""

    def route(settings: Mapping[str, Any], inputs: Values) -> Values:
        traced = definition(Knobs(), settings, inputs, variable)
        found = {name: clean(output) for name, output in traced.outputs.items()}
        return {**found, "gradients": {name: clean(g) for name, g in traced.gradients().items()}}

    return route


def clean(result: Tensor) -> Tensor:
    """Numbers in which what is the rounding error of a zero has become zero."""
    value = result.value
    return constant(np.where(abs(value) < NOISE, 0 * value, value))


def targets(y: np.ndarray, ways: int | None, like: Tensor) -> Tensor:
    """Labels ``(T, N)`` as one-hot rows; values as they are."""
    return constant(y, like=like) if ways is None else one_hot(y, ways, like)


def judged(logits: Logits) -> Definition:
    """Logits and the mean loss of a head."""

    def definition(knobs: Knobs, settings: Settings, inputs: Values, leaf: Leaf) -> Traced:
        ways = settings["ways"]
        if ways is None and knobs.turned & {"finish", "smoothing", "squared_error", "by_class"}:
            raise impossible("there are no classes")
        params = {name: leaf(array) for name, array in inputs.get("params", {}).items()}
        support, query = leaf(inputs["support_x"]), leaf(inputs["query_x"])
        given, wanted = (targets(inputs[f"{part}_y"], ways, support) for part in ("support", "query"))
        examples = Examples(support, given, query, wanted, params)
        if knobs.swapped:
            if ways and not wanted.value.any(axis=1).all():
                raise impossible("a class has no query")
            examples = examples.exchanged()
        z = logits(knobs, settings, examples)
        if knobs.factor is not None:
            z = knobs.factor(query.shape[2]) * z
        if knobs.finish is not None:
            z = softmax(z) if knobs.finish == "softmax" else softmax(z).log()
        value = loss(knobs, z, examples.query_target, labels=ways is not None)
        found = {"logits": z} if z.shape[1] == query.shape[1] else {}
        return Traced({"support_x": support, "query_x": query, **params}, {**found, "loss": value}, value)

    return definition


def loss(knobs: Knobs, z: Tensor, target: Tensor, *, labels: bool) -> Tensor:
    """The mean squared error, or the mean cross-entropy of one-hot targets."""
    if not labels or knobs.squared_error:
        return mse(z, target).mean()
    if knobs.smoothing is not None:
        target = (1 - knobs.smoothing) * target + knobs.smoothing / target.shape[-1]
    return cross_entropy(z, target, by_class=knobs.by_class).mean()


def ridge_regression(knobs: Knobs, settings: Settings, inputs: Values, leaf: Leaf) -> Traced:
    """Weight and bias of each task, and the pullback of their cotangents."""
    ways = settings["ways"]
    if knobs.target is not None and ways is None:
        raise impossible("the targets are values")
    leaves = {"embeddings": leaf(inputs["embeddings"])}
    leaves |= {name: leaf(p) for name, p in inputs.get("params", {}).items()}
    x = leaves["embeddings"]
    y, scale = targets(inputs["targets"], ways, x), constant(settings["scale"], like=x)
    y = y if knobs.target is None else knobs.target(y)
    scale = scale if knobs.scale is None else knobs.scale(scale)
    right = leaves["reg_lambda"] if "reg_lambda" in leaves else constant(settings["reg_lambda"], like=x)
    x = unit(Knobs(), x) if knobs.unit_first else x
    strength = penalty(knobs, right.reshape((-1, 1, 1)), x)
    weight, bias = least_squares(knobs, x, y, strength, intercept=settings["bias"])
    weight, bias = scale * weight.mT, scale * bias[:, 0]
    number = (weight * constant(inputs["g_weight"], like=x)).sum()
    number = number + (bias * constant(inputs["g_bias"], like=x)).sum()
    return Traced(leaves, {"weight": weight, "bias": bias}, number)


def pairs(knobs: Knobs, settings: Settings, inputs: Values, leaf: Leaf) -> Traced:
    """Cosines or squared distances of all pairs of rows, and the pullback of their cotangent."""
    leaves = {name: leaf(inputs[name]) for name in ("a", "b")}
    cosine = settings["similarity"] == "cosine"
    value = similarities(knobs, leaves["a"], leaves["b"], cosine=cosine)
    value = value if cosine else -value  # distances, and not the logits that they become
    return Traced(leaves, {"value": value}, (value * constant(inputs["gy"], like=value)).sum())
