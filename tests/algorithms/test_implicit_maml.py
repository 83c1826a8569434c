"""Implicit MAML: the gradient converges to that of the exact proximal optimum."""

import numpy as np
import pytest

import mltk
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
