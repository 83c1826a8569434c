"""IDBD: its trace is the derivative of the weights, and it finds which inputs matter."""

import array_api_strict
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mltk
from mltk.errors import ShapeError
from mltk.optim import IDBD

mltk.backend("numpy")
STEP = 1e-20  # of the complex step


def weights(log_rates, xs, ys):
    """The weights that the least-mean-squares rule with these step sizes leads to, and the last error."""
    w, error = 0 * log_rates, None
    for x, y in zip(xs, ys, strict=True):
        error = y - np.sum(w * x, axis=-1)
        w = w + np.exp(log_rates) * error[..., None] * x
    return w, error


@st.composite
def examples(draw):
    """Inputs of which one at a time is not zero, and targets: (steps, predictors, features)."""
    steps, predictors, features = draw(st.integers(1, 12)), draw(st.integers(0, 3)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    hot = rng.integers(0, features, (steps, predictors))
    xs = np.eye(features)[hot] * rng.uniform(-2, 2, (steps, predictors, 1))
    return xs, rng.standard_normal((steps, predictors)), draw(st.sampled_from([0.01, 0.05, 0.2]))


@settings(max_examples=50)
@given(examples())
def test_the_trace_is_the_derivative_of_the_weights(problem):
    xs, ys, rate = problem
    idbd = IDBD(0.0, rate)
    state = idbd.init(xs[0])
    for x, y in zip(xs, ys, strict=True):
        error, state = idbd.step(state, x, y)
    log_rates = np.full(xs.shape[1:], np.log(rate))
    w, last = weights(log_rates, xs, ys)
    np.testing.assert_allclose(state["weight"], w, atol=1e-12)
    np.testing.assert_allclose(error, last, atol=1e-12)
    for i in range(xs.shape[-1]):
        moved = log_rates + STEP * 1j * np.eye(xs.shape[-1])[i]
        derivative = np.imag(weights(moved, xs, ys)[0]) / STEP
        np.testing.assert_allclose(state["trace"][..., i], derivative[..., i], atol=1e-12)


@settings(max_examples=50)
@given(examples())
def test_the_step_of_the_rates_is_half_the_gradient_of_the_squared_error(problem):
    xs, ys, rate = problem
    idbd = IDBD(0.0, rate)
    state = idbd.init(xs[0])
    for x, y in zip(xs[:-1], ys[:-1], strict=True):
        _, state = idbd.step(state, x, y)
    _, after = IDBD(0.3, rate).step(state, xs[-1], ys[-1])
    log_rates = np.full(xs.shape[1:], np.log(rate))
    for i in range(xs.shape[-1]):
        moved = log_rates + STEP * 1j * np.eye(xs.shape[-1])[i]
        slope = np.imag(weights(moved, xs, ys)[1] ** 2) / STEP
        change = (after["log_rate"] - state["log_rate"])[..., i]
        np.testing.assert_allclose(change, -0.15 * slope, atol=1e-12)


def test_it_is_figure_2_of_the_paper():
    """Number by number, with the new step size in the same step, for inputs that are not orthogonal."""
    rng = np.random.default_rng(0)
    xs, ys, theta = rng.standard_normal((20, 3)), rng.standard_normal(20), 0.1
    idbd = IDBD(theta, 0.2)
    state = idbd.init(xs[0])
    w, beta, h = [0.0] * 3, [np.log(0.2)] * 3, [0.0] * 3
    for x, y in zip(xs, ys, strict=True):
        _, state = idbd.step(state, x, y)
        delta = y - sum(w[i] * x[i] for i in range(3))
        for i in range(3):
            beta[i] += theta * delta * x[i] * h[i]
            alpha = np.exp(beta[i])
            w[i] += alpha * delta * x[i]
            h[i] = h[i] * max(1 - alpha * x[i] ** 2, 0) + alpha * delta * x[i]
    for name, expected in (("weight", w), ("log_rate", beta), ("trace", h)):
        np.testing.assert_allclose(state[name], expected, rtol=1e-10)


def test_a_trace_that_a_step_would_turn_around_is_forgotten():
    idbd = IDBD(0.0, 0.5)
    one, two = np.asarray([1.0]), np.asarray([2.0])
    _, state = idbd.step(idbd.init(one), one, np.asarray(1.0))
    assert state["trace"][0] == 0.5
    error, state = idbd.step(state, two, np.asarray(3.0))  # 1 - 0.5 * 2² is negative
    assert error == 2.0
    assert state["trace"][0] == 0.5 * 2.0 * 2.0


def track(meta_rate, rates, *, steps, learned, runs=6):
    """Sutton's task: the signs of the first 5 of 20 weights switch, one every 20 examples.

    Returns:
        The mean squared errors after the first ``learned`` examples, for each of ``rates``, and the final
        step sizes ``(rates, runs, 20)``.
    """
    rng = np.random.default_rng(0)
    idbd = IDBD(meta_rate)
    shape = (len(rates), runs)
    state = idbd.init(np.zeros((*shape, 20)))
    state = state | {"log_rate": np.zeros((*shape, 20)) + np.log(rates)[:, None, None]}
    signs, total = rng.choice([-1.0, 1.0], (runs, 5)), 0.0
    for step in range(steps):
        if step % 20 == 0:
            signs[np.arange(runs), rng.integers(0, 5, runs)] *= -1
        x = rng.standard_normal((runs, 20))
        y = np.sum(signs * x[:, :5], axis=-1)
        error, state = idbd.step(state, np.broadcast_to(x, (*shape, 20)), np.broadcast_to(y, shape))
        if step >= learned:
            total = total + np.mean(error**2, axis=-1)
    return total / (steps - learned), np.exp(state["log_rate"])


def test_it_finds_the_relevant_inputs_and_beats_the_best_fixed_rate():
    """Section 3 of the paper, shortened: error and step sizes after 4,000 examples."""
    fixed, _ = track(0.0, [0.01, 0.02, 0.03, 0.04, 0.05, 0.06], steps=6000, learned=4000)
    (error,), rates = track(0.01, [0.05], steps=6000, learned=4000)
    assert 0 < np.argmin(fixed) < 5  # the best one is among those tried
    assert error < 0.7 * np.min(fixed)
    relevant, irrelevant = rates[..., :5], rates[..., 5:]
    assert np.min(relevant) > 2 * np.max(irrelevant)


def test_libraries_agree():
    rng = np.random.default_rng(0)
    xs, ys = rng.standard_normal((9, 2, 3)), rng.standard_normal((9, 2))

    def follow(convert):
        idbd = IDBD(0.1)
        state = idbd.init(convert(xs[0]))
        for x, y in zip(xs, ys, strict=True):
            error, state = idbd.step(state, convert(x), convert(y))
        return [np.from_dlpack(leaf) for leaf in (error, *state.values())]

    for convert in (torch.as_tensor, array_api_strict.asarray):
        for found, leaf in zip(follow(convert), follow(np.asarray), strict=True):
            np.testing.assert_allclose(found, leaf, rtol=1e-12)


def test_one_predictor_needs_no_leading_axes_and_changes_no_argument():
    idbd = IDBD(0.1)
    x, y = np.asarray([1.0, -2.0]), np.asarray(0.5)
    _, state = idbd.step(idbd.init(x), x, y)
    before = {name: leaf.copy() for name, leaf in state.items()}
    error, _ = idbd.step(state, x, y)
    assert error.shape == ()
    for name, leaf in before.items():
        np.testing.assert_array_equal(state[name], leaf)


def test_bad_arguments():
    idbd = IDBD()
    with pytest.raises(ShapeError, match="x has shape"):
        idbd.init(np.asarray(1.0))
    state = idbd.init(np.zeros((2, 3)))
    with pytest.raises(ShapeError, match=r"shapes \(3,\) and \(2,\); expected \(2, 3\) and \(2,\)"):
        idbd.step(state, np.zeros(3), np.zeros(2))
    with pytest.raises(ShapeError, match=r"expected \(2, 3\) and \(2,\)"):
        idbd.step(state, np.zeros((2, 3)), np.zeros((2, 1)))
