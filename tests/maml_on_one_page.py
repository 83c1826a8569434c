"""MAML and its exact gradient in plain NumPy: the code of ``notebooks/02-maml-on-one-page.ipynb``."""

import numpy as np


def layers(params, x):
    """What enters each layer of a perceptron with tanh between its layers, and what leaves the last."""
    values = [x]
    for W, b in params[:-1]:
        values.append(np.tanh(values[-1] @ W.T + b))
    W, b = params[-1]
    return [*values, values[-1] @ W.T + b]


def gradient(params, x, y):
    """The mean squared error, its gradient, and the cotangent of what each layer gives."""
    *values, output = layers(params, x)
    cotangent, grads, cotangents = 2 * (output - y) / y.size, [], []
    for (W, _), value in zip(reversed(params), reversed(values), strict=True):
        grads.insert(0, (cotangent.T @ value, cotangent.sum(0)))
        cotangents.insert(0, cotangent)
        cotangent = (1 - value**2) * (cotangent @ W)
    return np.mean((output - y) ** 2), grads, cotangents


def hessian_product(params, x, y, v):
    """The Hessian of that error times v: how its gradient moves when the parameters move along v."""
    *values, _ = layers(params, x)
    _, _, cotangents = gradient(params, x, y)

    moved = [np.zeros_like(x)]  # forwards: how what enters each layer moves
    for (W, _), (dW, db), value, after in zip(params, v, values, [*values[1:], None], strict=True):
        motion = moved[-1] @ W.T + value @ dW.T + db
        moved.append(motion if after is None else (1 - after**2) * motion)

    motion, products = 2 * moved.pop() / y.size, []  # backwards: how each cotangent moves
    for (W, _), (dW, _), value, change, cotangent in reversed(
        list(zip(params, v, values, moved, cotangents, strict=True))
    ):
        products.insert(0, (motion.T @ value + cotangent.T @ change, motion.sum(0)))
        pulled = motion @ W + cotangent @ dW
        motion = (1 - value**2) * pulled - 2 * value * change * (cotangent @ W)
    return products


def minus(params, rate, direction):
    """The parameters less a multiple of a direction."""
    return [(W - rate * dW, b - rate * db) for (W, b), (dW, db) in zip(params, direction, strict=True)]


def maml(params, support, query, rate, steps):
    """The query loss after some steps on the support set, and its exact gradient for where they began."""
    path = []
    for _ in range(steps):
        path.append(params)
        params = minus(params, rate, gradient(params, *support)[1])
    loss, adjoint, _ = gradient(params, *query)
    for before in reversed(path):
        adjoint = minus(adjoint, rate, hessian_product(before, *support, adjoint))
    return loss, adjoint
