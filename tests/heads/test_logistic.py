"""Logistic regression: the optimum, three derivations of the gradient of a few Newton steps, saturation."""

from dataclasses import dataclass, replace

import array_api_strict
import numpy as np
import pytest
import scipy.optimize
from head_derivations import BACKENDS64, each_backend, learned, run_head
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

import mltk
from mltk import tree
from mltk.algorithms import LogisticRegression
from mltk.errors import DtypeError, SettingError
from mltk.heads import LogisticHead

EXAMPLES = 25


@dataclass(frozen=True)
class Problem:
    """Support and query embeddings, labels, a cotangent of the outputs, and the regulariser."""

    x: np.ndarray
    labels: np.ndarray
    query: np.ndarray
    gy: np.ndarray
    reg_lambda: float

    @property
    def target(self):
        return np.eye(self.gy.shape[-1])[self.labels]

    def arguments(self, head):
        """What a head takes, and the cotangent of its outputs."""
        return learned(head, self.reg_lambda), self.x, self.target, self.query, self.gy

    @property
    def rounding(self):
        """1e-10, or rounding error times the condition number of a system."""
        return max(1e-10, 1e-14 * (1 + np.sum(self.x**2, axis=(1, 2)).max() / self.reg_lambda))


def draw_problem(seed, tasks=2, ways=3, shots=2, features=4, queries=3, reg_lambda=1.0, flaws=""):
    """Each class has an example, the rest belong to any."""
    rng = np.random.default_rng(seed)
    labels = np.stack([rng.permutation([*range(ways), *rng.integers(0, ways, shots)]) for _ in range(tasks)])
    x = rng.normal(size=(*labels.shape, features))
    query = rng.normal(size=(tasks, queries, features))
    if "duplicates" in flaws:
        x[:, -1] = x[:, 0]
    if "zeros" in flaws:
        x[:, labels.shape[1] // 2] = 0
        query[:, 0] = 0
    return Problem(x, labels, query, rng.normal(size=(tasks, queries, ways)), reg_lambda)


ANY = st.floats(-6, 6)
MODERATE = st.floats(-1, 3)


@st.composite
def problems(draw, exponents=ANY):
    sizes = {name: draw(st.integers(1, 4)) for name in ("tasks", "ways", "queries")}
    sizes |= {"shots": draw(st.integers(0, 5)), "features": draw(st.integers(1, 9))}
    flaws = draw(st.sampled_from(["", "duplicates", "zeros", "duplicates zeros"]))
    return draw_problem(draw(st.integers(0, 999)), **sizes, reg_lambda=10 ** draw(exponents), flaws=flaws)


def weights(problem, steps):
    head = LogisticHead(problem.reg_lambda, steps=steps, learn_lambda=False)
    return head.fit({}, problem.x, problem.target)["weight"]


def check_same_results(found, expected, problem):
    """Equal to rounding, measured by how large each result may be."""
    assert found.keys() == expected.keys()
    lam = problem.reg_lambda
    x, y, q, gy = (np.linalg.norm(a) for a in (problem.x, problem.target, problem.query, problem.gy))
    weight = y * min(x / lam, 1 / np.sqrt(lam))
    sizes = {"outputs": q * weight, "query": gy * weight, "scale": gy * q * weight, "bias": gy}
    sizes |= {"support": (1 + y / lam) * gy * q, "log_lambda": (1 + weight) * gy * q}
    for name, numbers in expected.items():
        assert np.isfinite(found[name]).all(), name
        assert found[name].shape == numbers.shape
        tolerance = problem.rounding * (sizes[name] + np.abs(numbers).max())
        np.testing.assert_allclose(found[name], numbers, rtol=0, atol=tolerance, err_msg=name)


@given(problem=problems(), steps=st.integers(1, 4))
@settings(max_examples=3 * EXAMPLES)
def test_three_derivations_agree(problem, steps):
    head = LogisticHead(steps=steps)
    expected, *others = (run_head(head, backend, *problem.arguments(head)) for backend in BACKENDS64.values())
    for found in others:
        check_same_results(found, expected, problem)


@given(problem=problems(MODERATE), steps=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=2 * EXAMPLES)
def test_gradient_is_that_of_central_differences(problem, steps, seed):
    head = LogisticHead(steps=steps)
    rng = np.random.default_rng(seed)
    point = {"support": problem.x, "query": problem.query, "scale": 1.2, "bias": -0.4}
    point["log_lambda"] = np.log(problem.reg_lambda)
    point = {name: np.asarray(array) for name, array in point.items()}
    along = {name: rng.normal(size=array.shape) for name, array in point.items()}

    def at(step):
        moved = {name: point[name] + step * along[name] for name in point}
        p = {name: moved[name] for name in head.shapes}
        return head.forward(p, moved["support"], problem.target, moved["query"]), p

    (_, residuals), p = at(0)
    gp, g_support, g_query = head.vjp(p, residuals, problem.gy)
    grads = {"support": g_support, "query": g_query, **gp}
    slope = sum(np.sum(grads[name] * along[name]) for name in point)
    ahead, behind = (np.sum(at(step)[0][0] * problem.gy) for step in (1e-5, -1e-5))
    assert slope == pytest.approx((ahead - behind) / 2e-5, rel=1e-6, abs=1e-5)


@given(problem=problems(), steps=st.integers(1, 4))
@settings(max_examples=EXAMPLES)
def test_steps_are_those_of_newtons_method(problem, steps):
    """The same steps on the weights: H w⁺ = H w - ∇, with the gradient and the Hessian of the objective."""
    found = weights(problem, steps)
    for task, (x, target) in enumerate(zip(problem.x, problem.target, strict=True)):
        for label, y in enumerate(target.T):
            w = np.zeros(x.shape[1])
            for _ in range(steps):
                mu = expit(x @ w)
                gradient = x.T @ (mu - y) + problem.reg_lambda * w
                slopes = expit(x @ w) * expit(-x @ w)
                w = w - np.linalg.solve(x.T * slopes @ x + problem.reg_lambda * np.eye(len(w)), gradient)
            size = problem.rounding * max(1, np.abs(w).max(), np.abs(x).max() / problem.reg_lambda**0.5)
            np.testing.assert_allclose(found[task, label], w, rtol=0, atol=10 * size)


@given(problem=problems(MODERATE))
@settings(max_examples=EXAMPLES)
def test_many_steps_reach_the_optimum(problem):
    found = weights(problem, 30)
    for w, x, y in zip(found, problem.x, problem.target, strict=True):
        gradient = (expit(x @ w.T) - y).T @ x + problem.reg_lambda * w
        assert np.abs(gradient).max() < 1e-11 * (1 + np.sum(x**2))


def test_optimum_is_that_of_scipy():
    problem = draw_problem(0, tasks=1, shots=4)
    for w, y in zip(weights(problem, 20)[0], problem.target[0].T, strict=True):

        def objective(w, y=y):
            f = problem.x[0] @ w
            return np.sum(np.logaddexp(0, f) - y * f) + problem.reg_lambda / 2 * np.sum(w**2)

        expected = scipy.optimize.minimize(objective, np.zeros_like(w), tol=1e-10).x
        np.testing.assert_allclose(w, expected, rtol=0, atol=1e-6)


@given(problem=problems(MODERATE))
@settings(max_examples=EXAMPLES)
def test_converged_gradient_is_that_of_the_optimum(problem):
    """Once converged, more steps change neither the outputs nor any gradient."""
    numpy = BACKENDS64["numpy"]
    heads = (LogisticHead(steps=steps) for steps in (25, 26))
    found, expected = (run_head(head, numpy, *problem.arguments(head)) for head in heads)
    check_same_results(found, expected, problem)


@given(problem=problems(MODERATE), steps=st.integers(1, 4), seed=st.integers(0, 99))
@settings(max_examples=EXAMPLES)
def test_classes_are_names_and_shots_a_set(problem, steps, seed):
    head, numpy = LogisticHead(steps=steps), BACKENDS64["numpy"]
    before = run_head(head, numpy, *problem.arguments(head))
    rng = np.random.default_rng(seed)
    names, order = (rng.permutation(extent) for extent in (problem.gy.shape[2], problem.x.shape[1]))
    gy = np.empty_like(problem.gy)
    gy[..., names] = problem.gy
    renamed = replace(problem, labels=names[problem.labels], gy=gy)
    renamed = run_head(head, numpy, *renamed.arguments(head))
    renamed["outputs"] = renamed["outputs"][..., names]
    check_same_results(renamed, before, problem)
    shuffled = replace(problem, x=problem.x[:, order], labels=problem.labels[:, order])
    expected = before | {"support": before["support"][:, order]}
    check_same_results(run_head(head, numpy, *shuffled.arguments(head)), expected, problem)


@given(problem=problems(st.just(6.0)))
@settings(max_examples=EXAMPLES)
def test_strong_regulariser_leaves_the_first_step(problem):
    first_order = (problem.target - 0.5).mT @ problem.x / problem.reg_lambda
    np.testing.assert_allclose(weights(problem, 5), first_order, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("features", [4, 30])
def test_single_precision_is_near_double(scale, features, backend32):
    problem = draw_problem(0, ways=5, shots=10, features=features, flaws="duplicates zeros")
    problem = replace(
        problem,
        x=(scale * problem.x).astype(np.float32).astype(np.float64),
        query=(scale * problem.query).astype(np.float32).astype(np.float64),
        reg_lambda=0.1 * scale**2,
    )
    head = LogisticHead()
    expected = run_head(head, BACKENDS64["numpy"], *problem.arguments(head))
    for name, numbers in run_head(head, backend32, *problem.arguments(head)).items():
        assert numbers.dtype == np.float32
        error = np.abs(numbers - expected[name]).max()
        assert error < 1e-3 * np.abs(expected[name]).max(), name


@pytest.mark.parametrize("reg_lambda", [1e-6, 1e-2])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3, 1e6])
def test_saturated_probabilities_give_finite_values_and_gradients(scale, reg_lambda, backend32):
    problem = draw_problem(0, ways=5, shots=10, features=7, flaws="duplicates zeros")
    problem = replace(problem, x=scale * problem.x, reg_lambda=reg_lambda)
    head = LogisticHead(steps=12)
    for name, numbers in run_head(head, backend32, *problem.arguments(head)).items():
        assert np.isfinite(numbers).all(), name


def test_steps_that_diverge_give_finite_values_and_gradients(backend32):
    """Newton's method has no bounds: where labels contradict each other, it may leave for anywhere."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 11, 2)) * np.exp(2 * rng.normal(size=(500, 11, 1)))
    labels, query, gy = rng.integers(0, 2, size=(500, 11)), x[:, :3], rng.normal(size=(500, 3, 2))
    head, problem = LogisticHead(steps=12), Problem(x, labels, query, gy, 1e-6)
    found = run_head(head, backend32, *problem.arguments(head))
    assert np.abs(found["outputs"]).max() > 1e6  # some do
    for name, numbers in found.items():
        assert np.isfinite(numbers).all(), name


@each_backend
def test_logit_far_out_on_the_wrong_side_is_brought_back(backend):
    """Contradicting labels of one embedding: its probability must be their share, whatever the scale."""
    x = np.full((1, 4, 1), 50.0)
    problem = Problem(x, np.array([[0, 0, 0, 1]]), x[:, :1], np.ones((1, 1, 2)), 1e-6)
    head = LogisticHead(steps=20, learn_bias=False, learn_scale=False)
    outputs = run_head(head, backend, *problem.arguments(head))["outputs"]
    np.testing.assert_allclose(expit(outputs[0, 0]), [0.75, 0.25], rtol=1e-6)


def test_runs_on_the_array_api_standard_alone():
    problem, head = draw_problem(0), LogisticHead(steps=3)
    p = {name: np.asarray(0.2) for name in head.shapes}
    arrays = (problem.x, problem.target, problem.query)
    outputs, residuals = head.forward(p, *arrays)
    gp, *expected = head.vjp(p, residuals, problem.gy)
    expected += [outputs, *gp.values()]
    strict = array_api_strict.asarray
    p = tree.map(strict, p)
    outputs, residuals = head.forward(p, *map(strict, arrays))
    gp, *found = head.vjp(p, residuals, strict(problem.gy))
    found += [outputs, *gp.values()]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(ours), theirs, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps is 0; expected an integer of at least 1"),
        ({"reg_lambda": -1.0}, "reg_lambda is -1.0"),
        ({"learn_scale": 1}, "learn_scale is 1; expected True or False"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(SettingError, match=message):
        LogisticRegression(mltk.models.mlp([1, 2]), **options)


def test_values_are_no_classes():
    backend = mltk.backend("numpy")
    learner = LogisticRegression(mltk.models.mlp([1, 4]))
    episode = mltk.data.Sinusoid(5, 5).sample(2, np.random.default_rng(0), backend)
    with pytest.raises(DtypeError, match="LogisticRegression is for classification alone"):
        learner.value_and_grad(learner.init(backend, 0), episode)


def test_gradient_through_head_and_embedding_is_the_same_on_each_backend():
    learner = LogisticRegression(mltk.models.mlp([3, 8, 6], activation="tanh"), steps=3)
    values, grads = [], []
    for backend in BACKENDS64.values():
        episode = mltk.data.Blobs(3, 2, 4).sample(3, np.random.default_rng(0), backend)
        value, grad = learner.value_and_grad(learner.init(backend, 0), episode)
        assert {name: leaf.shape for name, leaf in tree.flatten(grad).items()} == learner.meta_shapes
        values.append(float(value))
        grads.append(tree.map(backend.to_numpy, grad))
    assert values[1:] == pytest.approx([values[0]] * 2, rel=1e-10)
    for grad in grads[1:]:
        for ours, theirs in zip(tree.leaves(grad), tree.leaves(grads[0]), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-10)


def test_learns_to_tell_blobs_apart():
    learner = LogisticRegression(mltk.models.mlp([5, 32, 32]))
    backend, source = mltk.backend("numpy"), mltk.data.Blobs(5, 2, 5, separation=4.0)
    run = mltk.train(learner, source, backend=backend, steps=200, meta_batch=8, seed=0)
    episode = source.sample(200, np.random.default_rng(1), backend)
    untrained, _ = learner.value_and_grad(learner.init(backend, 0), episode)
    trained, _ = learner.value_and_grad(run.meta_params, episode)
    assert trained < 0.7 * untrained
    state = learner.adapt(run.meta_params, episode.support_x, episode.support_y)
    logits = learner.predict(state, episode.query_x)
    assert np.mean(np.argmax(logits, axis=-1) == episode.query_y) > 0.8
