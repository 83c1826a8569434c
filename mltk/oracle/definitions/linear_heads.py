"""Ridge and logistic regression, with knobs for their known mistakes."""

from __future__ import annotations

import numpy as np

from mltk.oracle.definitions.head_knobs import Examples, Knobs, Settings, chosen, impossible
from mltk.oracle.definitions.metric_heads import normalised
from mltk.oracle.definitions.network import softmax
from mltk.oracle.definitions.tensor import Tensor, concat, constant, solve

SINGULAR = 1e10
"""The condition of a system beyond which its solution in float64 is noise."""


def ridge(knobs: Knobs, settings: Settings, examples: Examples) -> Tensor:
    """The outputs of the regularised least squares fit, scaled and shifted."""
    if knobs.unit_first:
        examples = normalised(examples)
    weight, bias = least_squares(
        knobs,
        examples.support,
        _target(knobs, settings, examples),
        _strength(knobs, settings, examples),
        intercept=settings["intercept"],
    )
    return _calibrated(knobs, settings, examples, weight, bias)


def _target(knobs: Knobs, settings: Settings, examples: Examples) -> Tensor:
    if knobs.target is None:
        return examples.target
    if settings["ways"] is None:
        raise impossible("the targets are values")
    return knobs.target(examples.target)


def _strength(knobs: Knobs, settings: Settings, examples: Examples) -> Tensor:
    """The regulariser, learned or given, or what takes its place."""
    learned = examples.params.get("log_lambda")
    right = examples.number("", settings["reg_lambda"]) if learned is None else learned.exp()
    return penalty(knobs, right, examples.support)


def penalty(knobs: Knobs, right: Tensor, x: Tensor) -> Tensor:
    """What takes the place of the regulariser."""
    return right if knobs.penalty is None else knobs.penalty(right, *x.shape[1:])


def _calibrated(knobs: Knobs, settings: Settings, examples: Examples, weight: Tensor, bias: Tensor) -> Tensor:
    """The outputs for the queries, times the scale plus the shift."""
    if knobs.solver == "constant":
        weight, bias = weight.detach(), bias.detach()
    scale, shift = examples.number("scale", settings["scale"]), examples.number("bias", 0.0)
    scale = scale if knobs.scale is None else knobs.scale(scale)
    outputs = scale * (examples.query @ weight + bias)
    return outputs + chosen(
        knobs.shift,
        {
            None: lambda: shift,
            "missing": lambda: 0 * shift.detach(),
            "negated": lambda: -shift,
            "scaled": lambda: scale * shift,
        },
    )


def least_squares(
    knobs: Knobs, x: Tensor, y: Tensor, strength: Tensor, *, intercept: bool
) -> tuple[Tensor, Tensor]:
    """Weight ``(T, d, o)`` and bias ``(T, 1, o)``: of the centred examples, and what takes them back."""
    if not intercept and knobs.intercept not in (None, "there"):
        raise impossible("there is no intercept")
    if intercept and knobs.intercept == "there":
        raise impossible("there is an intercept")
    if knobs.intercept == "missing" or (not intercept and knobs.intercept is None):
        return _fit(knobs, x, y, strength), constant(np.zeros((len(x), 1, y.shape[2])), like=x)
    if knobs.intercept == "penalised":
        ones = constant(np.ones((*x.shape[:2], 1)), like=x)
        both = _fit(knobs, concat([x, ones], 2), y, strength)
        return both[:, :-1], both[:, -1:]
    x_mean, y_mean = x.mean(1, keepdims=True), y.mean(1, keepdims=True)
    if knobs.intercept == "not centred":
        weight = _fit(knobs, x, y, strength)
    elif knobs.intercept == "embeddings not centred":
        weight = _fit(knobs, x, y - y_mean, strength)
    else:
        weight = _fit(knobs, x - x_mean, y - y_mean, strength)
    return weight, y_mean if knobs.intercept == "mean of the targets" else y_mean - x_mean @ weight


def _fit(knobs: Knobs, x: Tensor, y: Tensor, strength: Tensor) -> Tensor:
    """The regularised least squares fit, or what is taken for it."""
    features, examples = (constant(np.eye(n), like=x) for n in (x.shape[2], x.shape[1]))

    def primal(matrix: Tensor) -> Tensor:
        return _solve(matrix, x.mT @ y)

    def dual(matrix: Tensor) -> Tensor:
        return x.mT @ _solve(matrix, y)

    gram, kernel = x.mT @ x, x @ x.mT

    def right() -> Tensor:
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
            "every entry of d x d": lambda: primal(gram + strength),
            "every entry of N x N": lambda: dual(kernel + strength),
            "one over": lambda: primal(gram + features / strength),
        },
    )


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    value = matrix.value
    if value.dtype == np.float64 and not np.linalg.cond(value).max() < SINGULAR:
        raise impossible("the system is singular")
    return solve(matrix, right)


def logistic(knobs: Knobs, settings: Settings, examples: Examples) -> Tensor:
    """The outputs of a logistic regression for each class, after Newton steps from zero on the weights."""
    if knobs.unit_first:
        examples = normalised(examples)
    steps = settings["steps"] + knobs.more_steps
    if steps < 1:
        raise impossible("no step is left")
    x, y = examples.support, _target(knobs, settings, examples)
    strength = _strength(knobs, settings, examples)
    step = _multinomial_step if knobs.solver == "multinomial" else _newton_step
    weight = constant(np.zeros((len(x), x.shape[2], y.shape[2])), like=x)
    for _ in range(steps):
        weight = weight.detach() if knobs.solver == "last step" else weight
        weight = weight - step(knobs, x, y, strength, weight)
    return _calibrated(knobs, settings, examples, weight, constant(0.0, like=x))


def _newton_step(knobs: Knobs, x: Tensor, y: Tensor, strength: Tensor, weight: Tensor) -> Tensor:
    """The step of each class against the rest."""
    share = (x @ weight).sigmoid()
    gradient = x.mT @ (share - y) + strength * weight
    regulariser = strength * constant(np.eye(x.shape[2]), like=x)
    each = x.reshape((len(x), 1, *x.shape[1:]))  # (T, 1, N, d), beside the classes of (T, ways, N, 1)
    slope = (share * (1 - share)).mT.reshape((len(x), y.shape[2], -1, 1))
    hessian = each.mT @ (slope * each) + (0 if knobs.solver == "Hessian without λ" else regulariser)
    if knobs.solver == "constant Hessian":
        hessian = each.mT @ each / 4 + regulariser
    columns = gradient.mT.reshape((len(x), y.shape[2], -1, 1))
    return _solve(hessian, columns).reshape((len(x), y.shape[2], -1)).mT


def _multinomial_step(knobs: Knobs, x: Tensor, y: Tensor, strength: Tensor, weight: Tensor) -> Tensor:
    """The step on one softmax for all classes."""
    (tasks, count, features), ways = x.shape, y.shape[2]
    size = features * ways
    share = softmax(x @ weight)
    gradient = x.mT @ (share - y) + strength * weight
    wide = share.reshape((tasks, count, ways, 1))
    curvature = wide * constant(np.eye(ways), like=x) - wide @ wide.mT
    left, right = x.reshape((tasks, count, features, 1)), x.reshape((tasks, count, 1, features))
    products = (left @ right).reshape((tasks, count, -1))
    hessian = products.mT @ curvature.reshape((tasks, count, -1))  # (T, d d, ways ways)
    hessian = hessian.reshape((tasks, features, features, ways, ways)).transpose((0, 1, 3, 2, 4))
    matrix = hessian.reshape((tasks, size, size)) + strength * constant(np.eye(size), like=x)
    return _solve(matrix, gradient.reshape((tasks, size, 1))).reshape((tasks, features, ways))
