"""Implicit MAML: the gradient converges to that of the exact proximal optimum."""

import numpy as np
import pytest
from routes import NUMPY
from scipy.optimize import minimize

import mltk
from mltk import tree
from mltk.algorithms import ImplicitMAML
from mltk.algorithms.implicit_maml import conjugate_gradients


def linear_task(backend, *, tasks=2, shots=5, queries=4, features=3):
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal((tasks, count, width)) for count in (shots, queries) for width in (features, 1)
    ]
    return arrays, mltk.Episode(*map(backend.asarray, arrays), backend=backend)


def test_converges_to_the_closed_form_of_ridge_regression(backend64):
    """φ* = (A + λI)⁻¹ (λw + b) with A = (2/n) XᵀX, b = (2/n) Xᵀt; and dL/dw = λ (A + λI)⁻¹ ∇L_q."""
    lam = 0.7
    (x, t, q, s), episode = linear_task(backend64)
    w = np.random.default_rng(1).standard_normal((3, 1))
    matrix = 2 / x.shape[1] * np.swapaxes(x, 1, 2) @ x + lam * np.eye(3)
    optimum = np.linalg.solve(matrix, lam * w + 2 / x.shape[1] * np.swapaxes(x, 1, 2) @ t)
    query_gradient = 2 / q.shape[1] * np.swapaxes(q, 1, 2) @ (q @ optimum - s)
    expected = lam * np.linalg.solve(matrix, query_gradient).mean(0)

    model = mltk.models.Sequential([mltk.ops.Linear(3, 1, bias=False)])
    meta = {"0": {"weight": backend64.asarray(w.T)}}
    errors = []
    for steps in (10, 40, 400):
        algorithm = ImplicitMAML(model, "mse", reg_lambda=lam, inner_lr=0.1, inner_steps=steps, cg_steps=3)
        value, grads = algorithm.value_and_grad(meta, episode)
        errors.append(np.abs(backend64.to_numpy(grads["0"]["weight"]).T - expected).max())
    assert errors[0] > 10 * errors[1] > 100 * errors[2]
    assert errors[2] < 1e-12
    assert float(value) == pytest.approx(np.mean((q @ optimum - s) ** 2), rel=1e-12)


def test_is_the_slope_of_the_loss_at_the_exact_optimum_of_a_network():
    """The optimum found by another method (BFGS), the slope by differences of its query loss."""
    model = mltk.models.mlp([1, 4, 1], activation="tanh")
    algorithm = ImplicitMAML(model, "mse", reg_lambda=2.0, inner_lr=0.05, inner_steps=600, cg_steps=30)
    episode = mltk.data.Sinusoid(6, 5, amplitude=(0.5, 1)).sample(1, 4, NUMPY)
    meta = algorithm.init(NUMPY, 0)
    _, grads = algorithm.value_and_grad(meta, episode)
    names = list(tree.flatten(meta))
    engine, objective = NUMPY.engine, algorithm.objective

    def to_tree(vector):
        splits = np.cumsum([leaf.size for leaf in tree.leaves(meta)])[:-1]
        parts = np.split(vector, splits)
        shapes = [leaf.shape for leaf in tree.leaves(meta)]
        return tree.unflatten({n: p.reshape(s) for n, p, s in zip(names, parts, shapes, strict=True)})

    def to_vector(values):
        return np.concatenate([leaf.ravel() for leaf in tree.leaves(values)])

    def query_loss_at_optimum(start):
        def proximal(vector):
            lin = engine.linearize(objective, to_tree(vector), episode.support_x, episode.support_y)
            pull = vector - start
            return lin.value[0] + pull @ pull, to_vector(lin.grad) + 2 * pull

        optimum = minimize(proximal, start, jac=True, method="BFGS", options={"gtol": 1e-11}).x
        return engine.linearize(objective, to_tree(optimum), episode.query_x, episode.query_y).value[0]

    start = to_vector(meta)
    direction = np.random.default_rng(0).standard_normal(start.size)
    slope = to_vector(grads) @ direction
    step = 1e-4
    difference = query_loss_at_optimum(start + step * direction) - query_loss_at_optimum(
        start - step * direction
    )
    assert slope == pytest.approx(difference / (2 * step), rel=1e-5)


def test_conjugate_gradients_solve_each_task_by_itself():
    """Tasks of different difficulty, one of them already solved; many more steps than needed do no harm."""
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((3, 6, 6)) * np.array([1, 10, 0.1])[:, None, None]
    matrices = factors @ np.swapaxes(factors, 1, 2) + np.eye(6)
    right = rng.standard_normal((3, 6, 1)) * np.array([1, 1e-8, 0])[:, None, None]
    found = conjugate_gradients(lambda v: {"x": matrices @ v["x"]}, {"x": right}, 60)["x"]
    expected = np.linalg.solve(matrices, right)
    for task in range(3):
        scale = np.abs(expected[task]).max()
        np.testing.assert_allclose(found[task], expected[task], rtol=0, atol=1e-9 * scale)
