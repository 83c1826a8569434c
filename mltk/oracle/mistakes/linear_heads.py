"""Ridge and logistic regression on complex arrays, with knobs for their known mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mltk.oracle.mistakes.knobs import Array, Examples, Knobs, chosen, impossible, setting_or
from mltk.oracle.mistakes.metric_heads import normalised, sigmoid, softmax

Settings = Mapping[str, Any]

SINGULAR = 1e10
"""The condition of a system beyond which its solution is noise."""


def ridge(knobs: Knobs, settings: Settings, examples: Examples) -> Array:
    """The outputs of ridge regression."""
    if knobs.unit_first:
        examples = normalised(examples)
    weight, bias = solve_ridge(
        knobs,
        examples.support,
        _target(knobs, settings, examples),
        _strength(knobs, settings, examples),
        intercept=settings["intercept"],
    )
    return _calibrated(knobs, settings, examples, weight, bias)


def _target(knobs: Knobs, settings: Settings, examples: Examples) -> Array:
    if knobs.target is None:
        return examples.target
    if settings["ways"] is None:
        raise impossible("the targets are values")
    return knobs.target(examples.target)


def _strength(knobs: Knobs, settings: Settings, examples: Examples) -> Array:
    """The regulariser, learned or given, or what takes its place; ``(copies, 1, 1, 1)`` or ``()``."""
    learned = setting_or(examples.params, "log_lambda", 0.0)
    right = np.exp(learned) if "log_lambda" in examples.params else np.asarray(settings["reg_lambda"])
    return penalty(knobs, right, examples.support)


def penalty(knobs: Knobs, right: Array, x: Array) -> Array:
    """What takes the place of the regulariser."""
    return right if knobs.penalty is None else knobs.penalty(right, *x.shape[2:])


def _calibrated(knobs: Knobs, settings: Settings, examples: Examples, weight: Array, bias: Array) -> Array:
    """The outputs for the queries, times the scale plus the shift."""
    if knobs.solver == "constant":
        weight, bias = weight.real, bias.real
    scale = setting_or(examples.params, "scale", settings["scale"])
    shift = setting_or(examples.params, "bias", 0.0)
    scale = scale if knobs.scale is None else knobs.scale(scale)
    outputs = scale * (examples.query @ weight + bias)
    return outputs + chosen(
        knobs.shift,
        {
            None: lambda: shift,
            "missing": lambda: np.asarray(0.0),
            "negated": lambda: -shift,
            "scaled": lambda: scale * shift,
        },
    )


def solve_ridge(knobs: Knobs, x: Array, y: Array, strength: Array, *, intercept: bool) -> tuple[Array, Array]:
    """Weight ``(copies, T, d, o)`` and bias ``(copies, T, 1, o)``."""
    nothing = np.zeros((1, 1, 1, 1))
    if not intercept:
        if knobs.intercept not in (None, "there"):
            raise impossible("there is no intercept")
        if knobs.intercept is None:
            return _solved(knobs, x, y, strength), nothing
    if knobs.intercept == "there" and intercept:
        raise impossible("there is an intercept")
    if knobs.intercept == "missing":
        return _solved(knobs, x, y, strength), nothing
    if knobs.intercept == "penalised":
        both = _solved(knobs, np.concatenate([x, np.ones_like(x[..., :1])], -1), y, strength)
        return both[..., :-1, :], both[..., -1:, :]
    x_mean, y_mean = x.mean(-2, keepdims=True), y.mean(-2, keepdims=True)
    if knobs.intercept == "not centred":
        weight = _solved(knobs, x, y, strength)
    elif knobs.intercept == "embeddings not centred":
        weight = _solved(knobs, x, y - y_mean, strength)
    else:
        weight = _solved(knobs, x - x_mean, y - y_mean, strength)
    through = np.zeros_like(x_mean) if knobs.intercept == "mean of the targets" else x_mean
    return weight, y_mean - through @ weight


def _solved(knobs: Knobs, x: Array, y: Array, strength: Array) -> Array:
    """The regularised least squares fit, or what is taken for it."""
    features, examples = np.eye(x.shape[-1]), np.eye(x.shape[-2])

    def primal(matrix: Array) -> Array:
        return _solve(matrix, x.mT @ y)

    def dual(matrix: Array) -> Array:
        return x.mT @ _solve(matrix, np.broadcast_to(y, (*matrix.shape[:-2], *y.shape[-2:])))

    gram, kernel = x.mT @ x, x @ x.mT

    def right() -> Array:
        if len(examples) < len(features):
            return dual(kernel + strength * examples)
        return primal(gram + strength * features)

    return chosen(
        knobs.system,
        {
            None: right,
            "kernel": lambda: dual(strength * kernel + examples),
            "times": lambda: strength * right(),
            "divided": lambda: right() / strength,
            "every entry of d x d": lambda: primal(gram + strength * np.ones_like(features)),
            "every entry of N x N": lambda: dual(kernel + strength * np.ones_like(examples)),
            "one over": lambda: primal(gram + features / strength),
        },
    )


def _solve(matrix: Array, right: Array) -> Array:
    if not np.linalg.cond(matrix[0].real).max() < SINGULAR:
        raise impossible("the system is singular")
    return np.linalg.solve(matrix, right)


def logistic(knobs: Knobs, settings: Settings, examples: Examples) -> Array:
    """The outputs of a logistic regression for each class, after Newton steps."""
    if knobs.unit_first:
        examples = normalised(examples)
    steps = settings["steps"] + knobs.more_steps
    if steps < 1:
        raise impossible("no step is left")
    x, y = examples.support, _target(knobs, settings, examples)
    strength = _strength(knobs, settings, examples)
    if knobs.solver == "multinomial":
        weight = _multinomial(x, y, strength, steps)
    else:
        weight = _one_against_rest(knobs, x, y, strength, steps)
    return _calibrated(knobs, settings, examples, weight, np.zeros((1, 1, 1, 1)))


def _one_against_rest(knobs: Knobs, x: Array, y: Array, strength: Array, steps: int) -> Array:
    weight = np.zeros((*x.shape[:2], x.shape[-1], y.shape[-1]), dtype=complex)
    identity = strength[..., None] * np.eye(x.shape[-1])
    for k in range(steps):
        share = sigmoid(x @ weight)
        slope = share * (1 - share)
        gradient = x.mT @ (share - y) + strength * weight
        rows = np.swapaxes(slope, -1, -2)[..., None] * x[..., None, :, :]  # (copies, T, ways, N, d)
        hessian = x.mT[..., None, :, :] @ rows + (0 if knobs.solver == "Hessian without λ" else identity)
        if knobs.solver == "constant Hessian":
            hessian = (x.mT @ x)[..., None, :, :] / 4 + identity
        weight = weight - _solve(hessian, gradient.mT[..., None])[..., 0].mT
        if knobs.solver == "last step" and k < steps - 1:
            weight = weight.real.astype(complex)
    return weight


def _multinomial(x: Array, y: Array, strength: Array, steps: int) -> Array:
    """Newton steps on one softmax for all classes."""
    features, ways = x.shape[-1], y.shape[-1]
    size = features * ways
    weight = np.zeros((*x.shape[:2], features, ways), dtype=complex)
    for _ in range(steps):
        share = softmax(x @ weight)
        gradient = x.mT @ (share - y) + strength * weight
        curvature = share[..., :, None] * np.eye(ways) - share[..., :, None] * share[..., None, :]
        hessian = np.einsum("...na,...nkl,...nb->...akbl", x, curvature, x, optimize=True)
        hessian = hessian.reshape(*x.shape[:2], size, size) + strength * np.eye(size)
        step = _solve(hessian, gradient.reshape(*x.shape[:2], size, 1))
        weight = weight - step.reshape(weight.shape)
    return weight
