"""Outer optimisers on Torch can be differentiated through: exact gradients, through several updates."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mltk
from mltk import optim, tree

mltk.backend("torch")
OPTIMIZERS = {
    "sgd": optim.SGD(0.1),
    "momentum": optim.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": optim.Adam(0.1),
    "adam-large-eps": optim.Adam(optim.StepDecay(0.1, every=2), beta1=0.5, beta2=0.7, eps=0.1),
    "adamw": optim.AdamW(0.1, weight_decay=0.3),
    "hypergradient": optim.HypergradientDescent(optim.Adam(0.1), 0.01),
    "clip-adam": optim.chain(optim.ClipByGlobalNorm(0.1), optim.Adam(0.1)),
}
SHAPES = {"a": (2, 3), "b": (), "c": (2,)}


def descend(optimizer, params, scales, steps):
    """Updates along the gradients of a quartic, whose form the scales give."""
    state = optimizer.init(params)
    for _ in range(steps):
        grads = tree.map(lambda p, s: s * p + p**3, params, scales)
        updates, state = optimizer.update(grads, state, params)
        params = optim.apply_updates(params, updates)
    return params


def outcome(optimizer, vector, steps):
    """One number after some steps, of the parameters and scales in one vector; in NumPy or Torch."""
    params, scales, start = {}, {}, 0
    for target in (params, scales):
        for name, shape in SHAPES.items():
            stop = start + int(np.prod(shape))
            target[name] = vector[start:stop].reshape(shape)
            start = stop
    end = descend(optimizer, params, scales, steps)
    return sum((leaf * (leaf + k)).sum() for k, leaf in enumerate(tree.leaves(end), 1))


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", OPTIMIZERS)
@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
def test_gradients_through_updates_are_those_of_the_complex_step(name, steps, seed):
    if name == "clip-adam" and steps > 1:
        steps = 2
    rng = np.random.default_rng(seed)
    vector = rng.uniform(0.5, 1.5, 18) * rng.choice([-1, 1], 18)
    leaf = torch.tensor(vector, requires_grad=True)
    value = outcome(OPTIMIZERS[name], leaf, steps)
    (grad,) = torch.autograd.grad(value, leaf)
    if name == "clip-adam":  # the maximum in it is no complex function
        expected = [central(OPTIMIZERS[name], vector, place, steps) for place in range(len(vector))]
        np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-8)
        return
    for place in range(len(vector)):
        moved = vector.astype(complex)
        moved[place] += 1e-30j
        found = outcome(OPTIMIZERS[name], moved, steps)
        np.testing.assert_allclose(found.real, float(value.detach()), rtol=1e-12)
        np.testing.assert_allclose(float(grad[place]), found.imag / 1e-30, rtol=1e-9, atol=1e-12)


def central(optimizer, vector, place, steps):
    moved = [vector.copy(), vector.copy()]
    moved[0][place] += 1e-6
    moved[1][place] -= 1e-6
    return (outcome(optimizer, moved[0], steps) - outcome(optimizer, moved[1], steps)) / 2e-6


def test_two_updates_of_adam_are_those_by_hand():
    alpha, b1, b2, eps = 0.1, 0.9, 0.99, 1e-8
    g = torch.tensor([[0.3, -2.0], [1.5, 0.7]], dtype=torch.float64, requires_grad=True)
    params = {"p": torch.zeros(2, dtype=torch.float64)}
    optimizer = optim.Adam(alpha, b1, b2, eps)
    state = optimizer.init(params)
    first, state = optimizer.update({"p": g[0]}, state, params)
    second, _ = optimizer.update({"p": g[1]}, state, params)
    m = b1 * (1 - b1) * g[0] + (1 - b1) * g[1]
    v = b2 * (1 - b2) * g[0] ** 2 + (1 - b2) * g[1] ** 2
    by_hand = -alpha * g[0] / (g[0].abs() + eps)
    by_hand = by_hand - alpha * (m / (1 - b1**2)) / ((v / (1 - b2**2)).sqrt() + eps)
    found = first["p"] + second["p"]
    torch.testing.assert_close(found, by_hand)
    for weights in ([1.0, 0.0], [0.0, 1.0]):
        weights = torch.tensor(weights, dtype=torch.float64)
        grads = [torch.autograd.grad((y * weights).sum(), g, retain_graph=True)[0] for y in (found, by_hand)]
        torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", [optim.Adam(0.1), optim.AdamW(0.1, weight_decay=0.2)])
def test_where_the_second_moment_is_zero_the_gradient_is_that_of_the_first_moment(optimizer):
    grad = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    params = {"p": torch.ones(3, dtype=torch.float64, requires_grad=True)}
    state = optimizer.init(params)
    updates, state = optimizer.update({"p": grad}, state, params)
    slope, decay = torch.autograd.grad(updates["p"].sum(), [grad, params["p"]], allow_unused=True)
    expected = (
        -optimizer.learning_rate / optimizer.eps / np.sqrt(1 - optimizer.beta2) * np.sqrt(1 - optimizer.beta2)
    )
    torch.testing.assert_close(slope, torch.full_like(slope, expected))
    if isinstance(optimizer, optim.AdamW):
        torch.testing.assert_close(decay, torch.full_like(decay, -0.1 * 0.2))


def test_clipping_of_a_zero_gradient_has_a_gradient():
    grad = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    clipped, _ = optim.ClipByGlobalNorm(1.0).update({"p": grad}, {}, {"p": grad})
    (slope,) = torch.autograd.grad(clipped["p"].sum(), grad)
    torch.testing.assert_close(slope, torch.ones_like(slope))


def test_what_is_not_a_number_stays_so():
    grad = torch.tensor([float("nan"), 1.0], requires_grad=True)
    params = {"p": torch.ones(2)}
    optimizer = optim.Adam(0.1)
    updates, _ = optimizer.update({"p": grad}, optimizer.init(params), params)
    assert torch.isnan(updates["p"]).tolist() == [True, False]
