"""Hypergradient descent: its hypergradient is the derivative of the loss, and its steps are the paper's."""

from itertools import pairwise

import array_api_strict
import numpy as np
import pytest
import torch
from assertions import agree, same
from hypothesis import given, settings
from hypothesis import strategies as st

import mltk
from mltk import optim, tree
from mltk.optim import HypergradientDescent

OPTIMIZERS = {
    "SGD": optim.SGD(0.02),
    "momentum": optim.SGD(0.02, momentum=0.9),
    "Nesterov": optim.SGD(0.02, momentum=0.8, nesterov=True),
    "weight decay": optim.SGD(0.02, momentum=0.5, weight_decay=0.1),
    "Adam": optim.Adam(0.05),
    "AdamW": optim.AdamW(0.05, beta1=0.7, weight_decay=0.1),
}
START = {"a": {"b": np.asarray([1.0, -2.0, 0.3])}, "c": np.asarray(0.7)}


def loss(params):
    """A smooth function that is not quadratic; its argument may be complex."""
    b, c = params["a"]["b"], params["c"]
    return np.sum(b**2 * np.asarray([1.0, 2.0, 0.5])) + np.sum(b) * np.sin(c) + c**4


def gradient(params):
    b, c = params["a"]["b"], params["c"]
    return {
        "a": {"b": 2 * b * np.asarray([1.0, 2.0, 0.5]) + np.sin(c)},
        "c": np.asarray(np.sum(b) * np.cos(c) + 4 * c**3),
    }


def descend(optimizer, steps, params=START):
    """The parameters, states and gradients of each step."""
    state, trail = optimizer.init(params), []
    for _ in range(steps):
        grads = gradient(params)
        updates, state = optimizer.update(grads, state, params)
        trail.append((params, grads, updates, state))
        params = optim.apply_updates(params, updates)
    return params, trail


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_rate_descends_along_the_derivative_of_the_loss(name):
    """After each step the complex step in the step size gives what the rate then moves by."""
    rate = 1e-3
    _, trail = descend(HypergradientDescent(OPTIMIZERS[name], rate), 6)
    for (params, _, updates, before), (*_, after) in pairwise(trail):
        alpha = before["rate"]
        moved = tree.map(lambda x, u, a=alpha: x + u / a * (a + 1e-20j), params, updates)
        derivative = np.imag(loss(moved)) / 1e-20
        assert after["rate"] - alpha == pytest.approx(-rate * derivative, rel=1e-9)
        assert abs(derivative) > 1e-3


def test_the_hypergradient_of_sgd_is_minus_the_product_of_successive_gradients():
    _, trail = descend(HypergradientDescent(optim.SGD(0.02), 1e-3), 8)
    assert trail[0][3]["rate"] == 0.02  # nothing is known at the first step
    for (_, first, _, before), (_, second, _, after) in pairwise(trail):
        product = sum(np.sum(x * y) for x, y in zip(tree.leaves(first), tree.leaves(second), strict=True))
        np.testing.assert_allclose(after["rate"] - before["rate"], 1e-3 * product, atol=1e-15)


def test_adams_hypergradient_is_that_of_its_direction():
    """Algorithm 6 of the paper, with the moments of Adam written out."""
    beta1, beta2, eps, rate = 0.9, 0.999, 1e-8, 1e-4
    x, alpha, m, v, slope = np.asarray([1.0, -2.0]), 0.05, 0.0, 0.0, np.zeros(2)
    optimizer = HypergradientDescent(optim.Adam(alpha, beta1=beta1, beta2=beta2, eps=eps), rate)
    params, curvature = {"x": x}, np.asarray([3.0, 0.2])
    state = optimizer.init(params)
    for t in range(1, 12):
        g = curvature * x
        alpha = alpha - rate * (g @ slope)
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        slope = -(m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)
        x = x + alpha * slope
        updates, state = optimizer.update({"x": curvature * params["x"]}, state, params)
        params = optim.apply_updates(params, updates)
        np.testing.assert_allclose(params["x"], x, rtol=1e-12)
        np.testing.assert_allclose(state["rate"], alpha, rtol=1e-12)


@settings(max_examples=20)
@given(name=st.sampled_from(list(OPTIMIZERS)), steps=st.integers(1, 8))
def test_without_hyper_rate_it_is_the_optimiser(name, steps):
    found, _ = descend(HypergradientDescent(OPTIMIZERS[name], 0.0), steps)
    expected, _ = descend(OPTIMIZERS[name], steps)
    agree(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("optimizer", "hyper_rate"),
    [(optim.SGD(1e-3), 1e-3), (optim.SGD(1e-3, momentum=0.9, nesterov=True), 1e-4), (optim.Adam(1e-3), 1e-3)],
)
def test_from_a_rate_too_small_it_descends_further(optimizer, hyper_rate):
    curvature = np.asarray([2.0, 1.0, 0.3])

    def quadratic_after(optimizer):
        params = {"x": np.asarray([1.0, -2.0, 3.0])}
        state = optimizer.init(params)
        for _ in range(30):
            updates, state = optimizer.update({"x": curvature * params["x"]}, state, params)
            params = optim.apply_updates(params, updates)
        return np.sum(curvature * params["x"] ** 2) / 2

    assert quadratic_after(HypergradientDescent(optimizer, hyper_rate)) < 0.7 * quadratic_after(optimizer)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_libraries_follow_one_trajectory(name):
    optimizer = HypergradientDescent(OPTIMIZERS[name], 0.01)
    rng = np.random.default_rng(0)
    grads = [tree.map(lambda leaf: np.asarray(rng.standard_normal(leaf.shape)), START) for _ in range(5)]

    def follow(convert):
        params = tree.map(convert, START)
        state = optimizer.init(params)
        for grad in grads:
            updates, state = optimizer.update(tree.map(convert, grad), state, params)
            params = optim.apply_updates(params, updates)
        assert state["rate"].shape == ()
        assert state["rate"].dtype == params["c"].dtype
        return [np.from_dlpack(leaf) for leaf in (*tree.leaves(params), state["rate"])]

    expected = follow(np.asarray)
    for convert in (torch.as_tensor, array_api_strict.asarray):
        for found, leaf in zip(follow(convert), expected, strict=True):
            np.testing.assert_allclose(found, leaf, rtol=1e-12)


def test_the_rate_goes_through_checkpoints(tmp_path, backend32):
    """A training resumed halfway ends with the numbers of one that was never stopped."""
    learner = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")
    options = {
        "backend": backend32,
        "optimizer": HypergradientDescent(optim.Adam(1e-3), 1e-4),
        "log_every": 2,
    }
    tasks = mltk.data.Sinusoid(shots=3, queries=3)
    straight = mltk.train(learner, tasks, steps=8, out=tmp_path / "straight", **options)
    mltk.train(learner, tasks, steps=4, out=tmp_path / "resumed", **options)
    resumed = mltk.train(learner, tasks, steps=8, out=tmp_path / "resumed", resume=True, **options)
    same(resumed.meta_params, straight.meta_params)
    with np.load(tmp_path / "straight" / "checkpoint.npz") as checkpoint:
        rate = checkpoint["optimizer.rate"]
    assert rate.shape == ()
    assert rate != np.float32(1e-3)
