"""Ridge regression: SciPy's numbers, two forms of one solution, and what its regulariser does."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
from assertions import agree
from head_problems import Problem, first_of, problems
from hypothesis import assume, given, settings

import mltk
from mltk.errors import RegulariserWarning, SettingError
from mltk.heads import RidgeHead, ridge_regression
from mltk.ops.one_hot import one_hot

EXAMPLES = 25
each_form = pytest.mark.parametrize("use_woodbury", [True, False], ids=["woodbury", "primal"])


each_intercept = pytest.mark.parametrize("intercept", [True, False])


def regressions(**options):
    """Problems of ridge regression on numbers."""
    return problems("ridge, Woodbury", values=True, scale=1.0, **options)


def first(**options):
    return first_of("ridge, Woodbury", 0, values=True, **options)


def by_scipy(x, y, reg_lambda, intercept):
    """Least squares on the examples with the penalty as further examples, task by task."""
    weights, biases = [], []
    for task_x, task_y in zip(x, y, strict=True):
        d = task_x.shape[1]
        rows = np.concatenate([task_x, np.sqrt(reg_lambda) * np.eye(d)])
        if intercept:
            rows = np.concatenate([rows, np.r_[np.ones(len(task_x)), np.zeros(d)][:, None]], axis=1)
        found = scipy.linalg.lstsq(rows, np.concatenate([task_y, np.zeros((d, task_y.shape[1]))]))[0]
        weights.append(found[:d].T)
        biases.append(found[d] if intercept else np.zeros(task_y.shape[1]))
    return np.stack(weights), np.stack(biases)


@each_form
@pytest.mark.parametrize("bias", [True, False])
@given(problem=regressions())
@settings(max_examples=EXAMPLES)
def test_solution_is_that_of_scipy(problem, backend64, use_woodbury, bias):
    x, y = backend64.asarray(problem.support), backend64.asarray(problem.target)
    found = ridge_regression(x, y, problem.reg_lambda, use_woodbury=use_woodbury, bias=bias, scale=0.5)
    weight, intercept = by_scipy(problem.support, problem.target, problem.reg_lambda, bias)
    size = 100 * problem.rounding()["outputs"]
    np.testing.assert_allclose(2 * backend64.to_numpy(found.weight), weight, rtol=0, atol=size)
    np.testing.assert_allclose(2 * backend64.to_numpy(found.bias), intercept, rtol=0, atol=size)
    expected = problem.query @ weight.mT + intercept[:, None]
    outputs = backend64.to_numpy(found.predict(backend64.asarray(problem.query)))
    np.testing.assert_allclose(2 * outputs, expected, rtol=0, atol=size)


@each_intercept
@given(problem=regressions())
@settings(max_examples=2 * EXAMPLES)
def test_woodbury_and_primal_form_are_one_solution_with_one_gradient(problem, intercept):
    woodbury, primal, chosen = (
        replace(problem, head=replace(problem.head, intercept=intercept, use_woodbury=form)).by_hand()
        for form in (True, False, None)
    )
    agree(woodbury, primal, atol=problem.rounding())
    expected = woodbury if problem.support.shape[1] < problem.support.shape[2] else primal
    for name, numbers in expected.items():
        np.testing.assert_array_equal(chosen[name], numbers)


@each_form
@given(problem=regressions(exponents=(9, 9)))
@settings(max_examples=EXAMPLES)
def test_strong_regulariser_leaves_nothing_of_the_weights(problem, use_woodbury):
    found = ridge_regression(problem.support, problem.target, problem.reg_lambda, use_woodbury=use_woodbury)
    first_order = problem.target.mT @ problem.support / problem.reg_lambda
    np.testing.assert_allclose(found.weight, first_order, rtol=1e-5, atol=1e-14)
    assert np.abs(found.weight).max() < 1e-6


@each_form
@given(problem=regressions(exponents=(-9, -9)))
@settings(max_examples=EXAMPLES)
def test_weak_regulariser_gives_least_squares_of_least_norm(problem, use_woodbury):
    singular = np.linalg.svd(problem.support, compute_uv=False)
    assume(((singular > 0.1) | (singular < 1e-10)).all())
    found = ridge_regression(problem.support, problem.target, problem.reg_lambda, use_woodbury=use_woodbury)
    np.testing.assert_allclose(
        found.weight.mT, np.linalg.pinv(problem.support) @ problem.target, rtol=0, atol=1e-4
    )


def test_labels_are_one_hot_targets(backend64):
    problem = first(shots=3)
    labels = np.array([[0, 1, 2, 1, 0, 0], [2, 2, 1, 0, 1, 1]])
    x, y = backend64.asarray(problem.support), backend64.asarray(labels)
    expected = ridge_regression(x, one_hot(y, 3, x), 0.5)
    for ours, theirs in zip(ridge_regression(x, y, 0.5, ways=3), expected, strict=True):
        np.testing.assert_array_equal(backend64.to_numpy(ours), backend64.to_numpy(theirs))
    assert tuple(ridge_regression(x, y, 0.5).weight.shape) == (2, 3, 4)


def test_regulariser_and_scale_may_differ_between_tasks(backend64):
    problem = first()
    x, y = backend64.asarray(problem.support), backend64.asarray(problem.target)
    lambdas, scales = np.array([0.1, 10.0]), np.array([2.0, -3.0])
    found = ridge_regression(x, y, backend64.asarray(lambdas), scale=backend64.asarray(scales), bias=True)
    for task in range(2):
        one = slice(task, task + 1)
        number = np.asarray(lambdas[task])  # of no axes, as a learned one
        expected = ridge_regression(x[one], y[one], backend64.asarray(number), scale=scales[task], bias=True)
        for ours, theirs in zip(found, expected, strict=True):
            ours, theirs = backend64.to_numpy(ours[one]), backend64.to_numpy(theirs)
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_one_column_of_targets_needs_no_axis():
    problem = first(ways=1)
    found = ridge_regression(problem.support, problem.target[..., 0], 1.0)
    np.testing.assert_array_equal(found.weight, ridge_regression(problem.support, problem.target, 1.0).weight)


def test_whoever_gives_a_regulariser_below_rounding_is_told(backend64):
    x = backend64.asarray(np.stack([np.eye(3), 1e6 * np.eye(3)]))
    y = backend64.asarray(np.ones((2, 3, 1)))
    with pytest.warns(RegulariserWarning, match=r"reg_lambda is 1e-08 for task 1.*; 0\.0107 was taken"):
        raised = ridge_regression(x, y, 1e-8)
    least = 16 * np.finfo(np.float64).eps * 3e12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = ridge_regression(x, y, backend64.asarray(np.array([1e-8, 1.001 * least])))
        learner = mltk.algorithms.RidgeRegression(mltk.models.Sequential([]), reg_lambda=1e-8)
        state = learner.adapt(learner.init(backend64, 0), x, y)
        learner.predict(state, x)
    np.testing.assert_allclose(backend64.to_numpy(raised.weight), backend64.to_numpy(same.weight), rtol=1e-12)


@pytest.mark.parametrize("number", [0.0, -1.0])
def test_every_regulariser_of_an_array_is_positive(backend64, number):
    problem = first(shots=2)
    x, y = (backend64.asarray(part) for part in (problem.support, problem.target))
    for refused in (np.full(len(x), number), np.array(number), np.float64(number)):
        given = backend64.asarray(refused) if isinstance(refused, np.ndarray) else refused
        with pytest.raises(SettingError, match=r"^reg_lambda .*; expected .*positive"):
            ridge_regression(x, y, given)


@each_form
def test_a_raised_regulariser_grows_with_the_embeddings(backend64, use_woodbury):
    """Two examples, a and b on axes of their own: the weight of b is b / (b² + λ), with λ = ρ (a² + b²)."""
    a, b, rho, asked = 1.0, 1e-8, 16 * np.finfo(np.float64).eps, 1e-20
    head = RidgeHead(asked, scale=1.0, use_woodbury=use_woodbury, learn_scale=False, learn_bias=False)
    support, target, query = (np.array([rows]) for rows in ([[a, 0], [0, b]], [[0.0], [1.0]], [[0.0, 1.0]]))
    p = {"log_lambda": np.log(np.asarray(asked))}
    found = Problem(head, p, support, target, query, np.ones((1, 1, 1))).run(backend64)
    system = b**2 + rho * (a**2 + b**2)
    np.testing.assert_allclose(found["outputs"], b / system, rtol=1e-9)
    slopes = [-2 * rho * a * b / system**2, 1 / system - 2 * b**2 * (1 + rho) / system**2]
    np.testing.assert_allclose(found["support"][0], np.diag(slopes), rtol=1e-9)
    assert found["log_lambda"] == 0  # what was raised does not depend on what was asked for
