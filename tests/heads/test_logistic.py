"""Logistic regression: Newton's steps, their optimum, saturation."""

from dataclasses import replace

import numpy as np
import pytest
from assertions import agree
from head_problems import Problem, first_of, parameters, problems
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

import mltk
from mltk.algorithms import LogisticRegression
from mltk.errors import DtypeError
from mltk.heads import LogisticHead

EXAMPLES = 25


MODERATE = (-1, 3)


def classifications(**options):
    """Problems of logistic regression."""
    return problems("logistic", **options)


def first(**options):
    return first_of("logistic", 0, **options)


def weights(problem, steps):
    head = LogisticHead(problem.reg_lambda, steps=steps, learn_lambda=False)
    return head.fit({}, problem.support, problem.target)["weight"]


@given(problem=classifications(), steps=st.integers(1, 4))
@settings(max_examples=EXAMPLES)
def test_steps_are_those_of_newtons_method(problem, steps):
    """The same steps on the weights: H w⁺ = H w - ∇, with the gradient and the Hessian of the objective."""
    found = weights(problem, steps)
    for task, (x, target) in enumerate(zip(problem.support, problem.target, strict=True)):
        for label, y in enumerate(target.T):
            w = np.zeros(x.shape[1])
            for _ in range(steps):
                mu = expit(x @ w)
                gradient = x.T @ (mu - y) + problem.reg_lambda * w
                slopes = expit(x @ w) * expit(-x @ w)
                w = w - np.linalg.solve(x.T * slopes @ x + problem.reg_lambda * np.eye(len(w)), gradient)
            size = problem.precision * max(1, np.abs(w).max(), np.abs(x).max() / problem.reg_lambda**0.5)
            np.testing.assert_allclose(found[task, label], w, rtol=0, atol=10 * size)


@given(problem=classifications(exponents=MODERATE))
@settings(max_examples=EXAMPLES)
def test_many_steps_reach_the_optimum(problem):
    found = weights(problem, 30)
    for w, x, y in zip(found, problem.support, problem.target, strict=True):
        gradient = (expit(x @ w.T) - y).T @ x + problem.reg_lambda * w
        assert np.abs(gradient).max() < 1e-11 * (1 + np.sum(x**2))


@given(problem=classifications(exponents=MODERATE))
@settings(max_examples=EXAMPLES)
def test_converged_gradient_is_that_of_the_optimum(problem):
    """Once converged, more steps change neither the outputs nor any gradient."""
    heads = (replace(problem.head, steps=steps) for steps in (25, 26))
    found, expected = (replace(problem, head=head).by_hand() for head in heads)
    agree(found, expected, atol=problem.rounding())


@given(problem=classifications(exponents=(6, 6)))
@settings(max_examples=EXAMPLES)
def test_strong_regulariser_leaves_the_first_step(problem):
    first_order = (problem.target - 0.5).mT @ problem.support / problem.reg_lambda
    np.testing.assert_allclose(weights(problem, 5), first_order, rtol=0, atol=1e-9)


@pytest.mark.parametrize("reg_lambda", [1e-6, 1e-2])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3, 1e6])
def test_saturated_probabilities_give_finite_values_and_gradients(scale, reg_lambda, backend32):
    problem = first(ways=5, shots=10, features=7, flaws="duplicates zeros", reg_lambda=reg_lambda)
    problem = replace(problem, head=replace(problem.head, steps=12), support=scale * problem.support)
    for name, numbers in problem.run(backend32).items():
        assert np.isfinite(numbers).all(), name


def test_steps_that_diverge_give_finite_values_and_gradients(backend32):
    """Newton's method has no bounds: where labels contradict each other, it may leave for anywhere."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 11, 2)) * np.exp(2 * rng.normal(size=(500, 11, 1)))
    target, gy = np.eye(2)[rng.integers(0, 2, size=(500, 11))], rng.normal(size=(500, 3, 2))
    head = LogisticHead(1e-6, steps=12)
    problem = Problem(head, parameters(head, rng, 1e-6, None), x, target, x[:, :3], gy)
    found = problem.run(backend32)
    assert np.abs(found["outputs"]).max() > 1e6  # some do
    for name, numbers in found.items():
        assert np.isfinite(numbers).all(), name


def test_logit_far_out_on_the_wrong_side_is_brought_back(backend64):
    """Contradicting labels of one embedding: its probability must be their share, whatever the scale."""
    x, target = np.full((1, 4, 1), 50.0), np.eye(2)[np.array([[0, 0, 0, 1]])]
    head = LogisticHead(1e-6, steps=20, learn_bias=False, learn_scale=False, learn_lambda=False)
    outputs = Problem(head, {}, x, target, x[:, :1], np.ones((1, 1, 2))).run(backend64)["outputs"]
    np.testing.assert_allclose(expit(outputs[0, 0]), [0.75, 0.25], rtol=1e-6)


def test_values_are_no_classes():
    backend = mltk.backend("numpy")
    learner = LogisticRegression(mltk.models.mlp([1, 4]))
    episode = mltk.data.Sinusoid(5, 5).sample(2, np.random.default_rng(0), backend)
    with pytest.raises(DtypeError, match="LogisticRegression is for classification alone"):
        learner.value_and_grad(learner.init(backend, 0), episode)
