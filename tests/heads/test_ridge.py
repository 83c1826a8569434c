"""Ridge regression: SciPy's numbers, two forms of one solution, three derivations of its gradient."""

import warnings
from dataclasses import dataclass, replace

import array_api_strict
import numpy as np
import pytest
import scipy.linalg
from head_derivations import BACKENDS64, each_backend, learned, run_head
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import mltk
from mltk import tree
from mltk.errors import RegulariserWarning
from mltk.heads import RidgeHead, ridge_regression
from mltk.ops.one_hot import one_hot

EXAMPLES = 25
each_form = pytest.mark.parametrize("use_woodbury", [True, False], ids=["woodbury", "primal"])


@dataclass(frozen=True)
class Problem:
    """Support and query embeddings, targets, a cotangent of the outputs, and the regulariser."""

    x: np.ndarray
    y: np.ndarray
    query: np.ndarray
    gy: np.ndarray
    reg_lambda: float

    def arguments(self, head):
        """What a head takes, and the cotangent of its outputs."""
        return learned(head, self.reg_lambda), self.x, self.y, self.query, self.gy

    @property
    def condition(self):
        """How much larger than the least the largest eigenvalue of a system may be."""
        return 1 + np.sum(self.x**2, axis=(1, 2)).max() / self.reg_lambda

    def tolerance(self, head=None):
        """1e-10 relative, or rounding error times the condition number, of how large each result may be."""
        size = max(1e-10, 1e-14 * self.condition)
        x, y, q, gy = (max(1, np.linalg.norm(a)) for a in (self.x, self.y, self.query, self.gy))
        lam, scale = self.reg_lambda, max(1, head.scale if head else 1)
        inverse = min(x / lam, 0.5 / np.sqrt(lam))  # the norm of (X'X + λ)⁻¹ X'
        gv = scale * gy * (q + x)
        return {
            "weight": size * inverse * y,
            "outputs": size * scale * (q + x) * (inverse + 1) * y,
            "query": size * scale * gy * inverse * y,
            "support": size * (y / lam + inverse**2 * y) * gv + size * gy * scale * inverse * y,
            "scale": size * gy * (q + x) * (inverse + 1) * y,
            "bias": size * gy,
            "log_lambda": size * inverse * y * gv,
        }


def draw_problem(seed, tasks=2, shots=5, features=4, outputs=3, queries=3, reg_lambda=1.0, flaws=""):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(tasks, shots, features))
    query = rng.normal(size=(tasks, queries, features))
    if "duplicates" in flaws:
        x[:, -1] = x[:, 0]
    if "zeros" in flaws:
        x[:, shots // 2] = 0
        query[:, 0] = 0
    y = rng.normal(size=(tasks, shots, outputs))
    return Problem(x, y, query, rng.normal(size=(tasks, queries, outputs)), reg_lambda)


ANY = st.floats(-6, 6)


@st.composite
def problems(draw, exponents=ANY):
    sizes = {name: draw(st.integers(1, 4)) for name in ("tasks", "outputs", "queries")}
    sizes |= {name: draw(st.integers(1, 9)) for name in ("shots", "features")}
    flaws = draw(st.sampled_from(["", "duplicates", "zeros", "duplicates zeros"]))
    return draw_problem(draw(st.integers(0, 999)), **sizes, reg_lambda=10 ** draw(exponents), flaws=flaws)


def check_same_results(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, numbers in expected.items():
        assert np.isfinite(found[name]).all(), name
        assert found[name].shape == numbers.shape
        np.testing.assert_allclose(found[name], numbers, rtol=0, atol=tolerance[name], err_msg=name)


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


@each_backend
@each_form
@pytest.mark.parametrize("bias", [True, False])
@given(problem=problems())
@settings(max_examples=EXAMPLES)
def test_solution_is_that_of_scipy(problem, backend, use_woodbury, bias):
    x, y = backend.asarray(problem.x), backend.asarray(problem.y)
    found = ridge_regression(x, y, problem.reg_lambda, use_woodbury=use_woodbury, bias=bias, scale=0.5)
    weight, intercept = by_scipy(problem.x, problem.y, problem.reg_lambda, bias)
    size = 10 * problem.tolerance()["weight"]
    np.testing.assert_allclose(2 * backend.to_numpy(found.weight), weight, rtol=0, atol=size)
    size = 10 * problem.tolerance()["outputs"]
    np.testing.assert_allclose(2 * backend.to_numpy(found.bias), intercept, rtol=0, atol=size)
    expected = problem.query @ weight.mT + intercept[:, None]
    outputs = backend.to_numpy(found.predict(backend.asarray(problem.query)))
    np.testing.assert_allclose(2 * outputs, expected, rtol=0, atol=size)


@pytest.mark.parametrize("intercept", [True, False])
@each_form
@given(problem=problems())
@settings(max_examples=EXAMPLES)
def test_three_derivations_agree(problem, use_woodbury, intercept):
    head = RidgeHead(use_woodbury=use_woodbury, intercept=intercept)
    expected, *others = (run_head(head, backend, *problem.arguments(head)) for backend in BACKENDS64.values())
    for found in others:
        check_same_results(found, expected, problem.tolerance(head))


@pytest.mark.parametrize("intercept", [True, False])
@given(problem=problems())
@settings(max_examples=2 * EXAMPLES)
def test_woodbury_and_primal_form_are_one_solution_with_one_gradient(problem, intercept):
    numpy = BACKENDS64["numpy"]
    head = RidgeHead(intercept=intercept)
    woodbury, primal, chosen = (
        run_head(replace(head, use_woodbury=form), numpy, *problem.arguments(head))
        for form in (True, False, None)
    )
    check_same_results(woodbury, primal, problem.tolerance(head))
    expected = woodbury if problem.x.shape[1] < problem.x.shape[2] else primal
    for name, numbers in expected.items():
        np.testing.assert_array_equal(chosen[name], numbers)


@each_form
@given(problem=problems(st.floats(-1, 2)), intercept=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=2 * EXAMPLES)
def test_gradient_is_that_of_central_differences(problem, use_woodbury, intercept, seed):
    head = RidgeHead(use_woodbury=use_woodbury, intercept=intercept)
    rng = np.random.default_rng(seed)
    point = {"support": problem.x, "query": problem.query, "scale": 1.2, "bias": -0.4}
    point["log_lambda"] = np.log(problem.reg_lambda)
    point = {name: np.asarray(array) for name, array in point.items()}
    along = {name: rng.normal(size=array.shape) for name, array in point.items()}

    def at(step):
        moved = {name: point[name] + step * along[name] for name in point}
        p = {name: moved[name] for name in head.shapes}
        return head.forward(p, moved["support"], problem.y, moved["query"]), p

    (_, residuals), p = at(0)
    gp, g_support, g_query = head.vjp(p, residuals, problem.gy)
    grads = {"support": g_support, "query": g_query, **gp}
    slope = sum(np.sum(grads[name] * along[name]) for name in point)
    ahead, behind = (np.sum(at(step)[0][0] * problem.gy) for step in (1e-5, -1e-5))
    assert slope == pytest.approx((ahead - behind) / 2e-5, rel=1e-6, abs=1e-5)


@each_form
@given(problem=problems(st.just(9.0)))
@settings(max_examples=EXAMPLES)
def test_strong_regulariser_leaves_nothing_of_the_weights(problem, use_woodbury):
    found = ridge_regression(problem.x, problem.y, problem.reg_lambda, use_woodbury=use_woodbury)
    first_order = problem.y.mT @ problem.x / problem.reg_lambda
    np.testing.assert_allclose(found.weight, first_order, rtol=1e-5, atol=1e-14)
    assert np.abs(found.weight).max() < 1e-6


@each_form
@given(problem=problems(st.just(-9.0)))
@settings(max_examples=EXAMPLES)
def test_weak_regulariser_gives_least_squares_of_least_norm(problem, use_woodbury):
    singular = np.linalg.svd(problem.x, compute_uv=False)
    assume(((singular > 0.1) | (singular < 1e-10)).all())
    found = ridge_regression(problem.x, problem.y, problem.reg_lambda, use_woodbury=use_woodbury)
    np.testing.assert_allclose(found.weight.mT, np.linalg.pinv(problem.x) @ problem.y, rtol=0, atol=1e-4)


@each_form
@given(problem=problems(st.floats(-2, 2)), shift=st.floats(-10, 10))
@settings(max_examples=EXAMPLES)
def test_intercept_is_not_penalised(problem, use_woodbury, shift):
    options = {"use_woodbury": use_woodbury, "bias": True}
    before = ridge_regression(problem.x, problem.y, problem.reg_lambda, **options)
    higher = ridge_regression(problem.x, problem.y + shift, problem.reg_lambda, **options)
    np.testing.assert_allclose(higher.weight, before.weight, rtol=0, atol=1e-9)
    np.testing.assert_allclose(higher.bias, before.bias + shift, rtol=0, atol=1e-9)
    elsewhere = ridge_regression(problem.x + shift, problem.y, problem.reg_lambda, **options)
    np.testing.assert_allclose(elsewhere.weight, before.weight, rtol=0, atol=1e-9)


@each_form
@given(problem=problems(st.floats(-2, 4)), bias=st.booleans())
@settings(max_examples=EXAMPLES)
def test_regulariser_is_not_scaled_by_the_number_of_examples(problem, use_woodbury, bias):
    options = {"use_woodbury": use_woodbury, "bias": bias}
    once = ridge_regression(problem.x, problem.y, problem.reg_lambda, **options)
    x, y = (np.concatenate([array, array], axis=1) for array in (problem.x, problem.y))
    twice = ridge_regression(x, y, 2 * problem.reg_lambda, **options)
    np.testing.assert_allclose(twice.weight, once.weight, rtol=1e-9, atol=1e-10)


@given(problem=problems(st.floats(-3, 3)), intercept=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=EXAMPLES)
def test_classes_are_names_and_shots_a_set(problem, intercept, seed):
    head, numpy = RidgeHead(intercept=intercept), BACKENDS64["numpy"]
    before = run_head(head, numpy, *problem.arguments(head))
    rng = np.random.default_rng(seed)
    names, order = (rng.permutation(extent) for extent in (problem.y.shape[2], problem.y.shape[1]))
    renamed = replace(problem, y=problem.y[..., names], gy=problem.gy[..., names])
    renamed = run_head(head, numpy, *renamed.arguments(head))
    expected = before | {"outputs": before["outputs"][..., names]}
    check_same_results(renamed, expected, problem.tolerance(head))
    shuffled = replace(problem, x=problem.x[:, order], y=problem.y[:, order])
    shuffled = run_head(head, numpy, *shuffled.arguments(head))
    expected = before | {"support": before["support"][:, order]}
    check_same_results(shuffled, expected, problem.tolerance(head))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("sizes", [(3, 8), (8, 3), (100, 16)], ids=str)
@each_form
def test_single_precision_is_near_double(scale, sizes, use_woodbury, backend32):
    shots, features = sizes
    problem = draw_problem(0, shots=shots, features=features, flaws="duplicates zeros")
    problem = replace(problem, reg_lambda=0.01 * scale**2)
    problem = replace(
        problem,
        x=(scale * problem.x).astype(np.float32).astype(np.float64),
        query=(scale * problem.query).astype(np.float32).astype(np.float64),
    )
    head = RidgeHead(use_woodbury=use_woodbury, scale=1.0)
    expected = run_head(head, BACKENDS64["numpy"], *problem.arguments(head))
    for name, numbers in run_head(head, backend32, *problem.arguments(head)).items():
        assert numbers.dtype == np.float32
        error = np.abs(numbers - expected[name]).max()
        assert error < 1e-3 * np.abs(expected[name]).max(), name


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e3, 1e6])
@each_form
def test_singular_systems_give_finite_values_and_gradients(scale, use_woodbury, backend32):
    problem = draw_problem(0, shots=9, features=7, flaws="duplicates zeros")
    x = scale * np.concatenate([problem.x, problem.x], axis=2)  # of a rank below both extents
    problem = replace(problem, x=x, query=np.concatenate([problem.query] * 2, axis=2), reg_lambda=1e-6)
    head = RidgeHead(use_woodbury=use_woodbury)
    for name, numbers in run_head(head, backend32, *problem.arguments(head)).items():
        assert np.isfinite(numbers).all(), name


@each_backend
def test_what_is_not_a_number_shows_in_its_task_alone(backend):
    problem = draw_problem(0)
    problem.x[1, 0, 0] = np.nan
    head = RidgeHead()
    found = run_head(head, backend, *problem.arguments(head))
    for name in ("outputs", "support", "log_lambda"):
        assert np.isfinite(found[name][0]).all()
        assert np.isnan(found[name][1]).any()


@each_form
@pytest.mark.parametrize("intercept", [True, False])
def test_runs_on_the_array_api_standard_alone(use_woodbury, intercept):
    problem = draw_problem(0)
    head = RidgeHead(use_woodbury=use_woodbury, intercept=intercept)
    p = {name: np.asarray(0.2) for name in head.shapes}
    arrays = (problem.x, problem.y, problem.query)
    outputs, residuals = head.forward(p, *arrays)
    expected = {"outputs": outputs, **dict(enumerate(head.vjp(p, residuals, problem.gy)))}
    strict = array_api_strict.asarray
    outputs, residuals = head.forward(tree.map(strict, p), *map(strict, arrays))
    found = {
        "outputs": outputs,
        **dict(enumerate(head.vjp(tree.map(strict, p), residuals, strict(problem.gy)))),
    }
    for name, numbers in expected.items():
        pairs = [(found[name], numbers)]
        if isinstance(numbers, dict):
            pairs = [(found[name][key], leaf) for key, leaf in numbers.items()]
        for ours, theirs in pairs:
            np.testing.assert_allclose(np.asarray(ours), theirs, rtol=1e-12, atol=1e-12)


@given(learned=st.tuples(st.booleans(), st.booleans(), st.booleans()))
@settings(max_examples=8)
def test_only_what_is_learned_is_a_parameter(learned):
    problem = draw_problem(0)
    switches = dict(zip(("learn_scale", "learn_bias", "learn_lambda"), learned, strict=True))
    head = RidgeHead(problem.reg_lambda, scale=3.0, **switches)
    p = head.init(np.random.default_rng(0))
    names = [
        name for name, is_learned in zip(("scale", "bias", "log_lambda"), learned, strict=True) if is_learned
    ]
    assert list(p) == list(head.shapes) == names
    outputs, residuals = head.forward(p, problem.x, problem.y, problem.query)
    solution = ridge_regression(problem.x, problem.y, problem.reg_lambda, scale=3.0)
    np.testing.assert_allclose(outputs, solution.predict(problem.query), rtol=1e-10, atol=1e-10)
    np.testing.assert_array_equal(outputs, head.predict(p, head.fit(p, problem.x, problem.y), problem.query))
    assert list(head.vjp(p, residuals, problem.gy)[0]) == names


@each_backend
def test_labels_are_one_hot_targets(backend):
    problem = draw_problem(0, shots=6)
    labels = np.array([[0, 1, 2, 1, 0, 0], [2, 2, 1, 0, 1, 1]])
    x, y = backend.asarray(problem.x), backend.asarray(labels)
    expected = ridge_regression(x, one_hot(y, 3, x), 0.5)
    for ours, theirs in zip(ridge_regression(x, y, 0.5, ways=3), expected, strict=True):
        np.testing.assert_array_equal(backend.to_numpy(ours), backend.to_numpy(theirs))
    assert tuple(ridge_regression(x, y, 0.5).weight.shape) == (2, 3, 4)


@each_backend
def test_regulariser_and_scale_may_differ_between_tasks(backend):
    problem = draw_problem(0)
    x, y = backend.asarray(problem.x), backend.asarray(problem.y)
    lambdas, scales = np.array([0.1, 10.0]), np.array([2.0, -3.0])
    found = ridge_regression(x, y, backend.asarray(lambdas), scale=backend.asarray(scales), bias=True)
    for task in range(2):
        one = slice(task, task + 1)
        number = np.asarray(lambdas[task])  # of no axes, as a learned one
        expected = ridge_regression(x[one], y[one], backend.asarray(number), scale=scales[task], bias=True)
        for ours, theirs in zip(found, expected, strict=True):
            ours, theirs = backend.to_numpy(ours[one]), backend.to_numpy(theirs)
            np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_one_column_of_targets_needs_no_axis():
    problem = draw_problem(0, outputs=1)
    found = ridge_regression(problem.x, problem.y[..., 0], 1.0)
    np.testing.assert_array_equal(found.weight, ridge_regression(problem.x, problem.y, 1.0).weight)


@each_backend
def test_whoever_gives_a_regulariser_below_rounding_is_told(backend):
    x = backend.asarray(np.stack([np.eye(3), 1e6 * np.eye(3)]))
    y = backend.asarray(np.ones((2, 3, 1)))
    with pytest.warns(RegulariserWarning, match=r"reg_lambda is 1e-08 for task 1.*; 0\.0107 was taken"):
        raised = ridge_regression(x, y, 1e-8)
    least = 16 * np.finfo(np.float64).eps * 3e12
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = ridge_regression(x, y, backend.asarray(np.array([1e-8, 1.001 * least])))
        learner = mltk.algorithms.RidgeRegression(mltk.models.Sequential([]), reg_lambda=1e-8)
        state = learner.adapt(learner.init(backend, 0), x, y)
        learner.predict(state, x)
    np.testing.assert_allclose(backend.to_numpy(raised.weight), backend.to_numpy(same.weight), rtol=1e-12)
