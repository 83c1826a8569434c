"""Every head of `mltk.heads` against independent derivatives, over shapes, parameters, flaws and scales."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import strict
from assertions import agree
from head_problems import HEADS, UNORDERED, first_of, problems
from hypothesis import given, settings
from hypothesis import strategies as st
from routes import NUMPY

import mltk
from mltk import heads, tree

EXAMPLES = 20
GENERIC = {"flaws": "", "away": True, "scale": 1.0, "exponents": (-1, 2)}


def over(kinds=HEADS, **options):
    """Run a test for each kind of head and over problems of that kind."""

    def decorate(test):
        @pytest.mark.parametrize("kind", kinds)
        @settings(max_examples=EXAMPLES)
        @given(data=st.data())
        def run(kind, data):
            test(data.draw(problems(kind, **options)))

        return run

    return decorate


def test_no_head_is_left_out():
    public = [getattr(heads, name) for name in heads.__all__ if inspect.isclass(getattr(heads, name))]
    concrete = {head for head in public if issubclass(head, heads.Head) and not inspect.isabstract(head)}
    assert {type(first_of(kind, 0).head) for kind in HEADS} == concrete


@over()
def test_values_and_derivatives_are_those_of_autograd(problem):
    expected = problem.run(mltk.backend("torch", dtype="float64", engine="autograd"))
    tolerance = problem.rounding()
    agree(problem.run(NUMPY), expected, atol=tolerance)
    agree(problem.run(mltk.backend("torch", dtype="float64", engine="analytic")), expected, atol=tolerance)


@over(**GENERIC)
def test_derivatives_are_central_differences(problem):
    # Cotangents of parameters are per task, also where the tasks share the parameters.
    found, rng, step = problem.by_hand(), np.random.default_rng(0), 1e-5
    flat = {"support": problem.support, "query": problem.query, **tree.flatten(problem.p)}
    along = {name: rng.normal(size=array.shape) for name, array in flat.items()}
    slope = sum(np.sum(found[name] * direction) for name, direction in along.items())
    ahead, behind = (
        np.sum(problem.gy * problem.moved(along, distance).by_hand()["outputs"]) for distance in (step, -step)
    )
    size = np.abs(problem.gy).sum() * (1 + np.abs(found["outputs"]).max())
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-6, abs=1e-6 * size)


@over()
def test_runs_on_the_array_api_standard_alone(problem):
    expected, tolerance = problem.by_hand(), problem.rounding()
    for device in strict.DEVICES:
        agree(problem.by_hand(strict.to(device), strict.back(device)), expected, atol=tolerance)


@over()
def test_fit_and_predict_are_the_outputs(problem):
    head, p, target = problem.head, problem.p, problem.target
    fitted = head.fit(p, problem.support, target)
    assert all(leaf.shape[0] == len(target) for leaf in tree.leaves(fitted))
    expected = problem.by_hand()["outputs"]
    np.testing.assert_array_equal(head.predict(p, fitted, problem.query), expected)
    alone = head.predict(p, fitted, problem.query[:, :1])  # the other queries do not matter
    agree({"outputs": alone}, {"outputs": expected[:, :1]}, atol=problem.rounding())


@over()
def test_tasks_do_not_know_each_other(problem):
    found, tolerance = problem.by_hand(), problem.rounding()
    for task in range(len(problem.support)):
        alone = problem.one(task).by_hand()
        agree({name: leaf[task : task + 1] for name, leaf in found.items()}, alone, atol=tolerance)


@pytest.mark.parametrize("kind", HEADS)
def test_what_is_not_a_number_shows_in_its_task_alone(kind, backend64):
    problem = first_of(kind, 0)
    problem.support[1, 0, 0] = np.nan
    found = problem.run(backend64)
    for name, numbers in found.items():
        assert np.isfinite(numbers[0]).all(), name
    assert np.isnan(found["outputs"][1]).any()


@over()
def test_classes_are_names(problem):
    names = np.random.default_rng(0).permutation(problem.ways)
    renamed = replace(problem, target=problem.target[..., names], gy=problem.gy[..., names]).by_hand()
    expected = problem.by_hand()
    expected["outputs"] = expected["outputs"][..., names]
    agree(renamed, expected, atol=problem.rounding())


@over(UNORDERED)
def test_shots_are_a_set(problem):
    order = np.random.default_rng(0).permutation(problem.support.shape[1])
    shuffled = replace(problem, support=problem.support[:, order], target=problem.target[:, order]).by_hand()
    expected = problem.by_hand()
    expected["support"] = expected["support"][:, order]
    agree(shuffled, expected, atol=problem.rounding())


@over()
def test_the_head_says_what_it_learns(problem):
    head = problem.head
    start = {
        name: np.asarray(leaf) for name, leaf in tree.flatten(head.init(np.random.default_rng(0))).items()
    }
    assert {name: leaf.shape for name, leaf in start.items()} == head.shapes
    assert {leaf.dtype for leaf in start.values()} <= {np.dtype("float64")}
    found, tasks = problem.by_hand(), len(problem.support)
    assert set(found) == {"outputs", "support", "query", *head.shapes}
    assert {name: found[name].shape for name in head.shapes} == {
        name: (tasks, *shape) for name, shape in head.shapes.items()
    }


@over()
def test_nothing_changes_its_arguments(problem):
    arguments = {"p": problem.p, "support": problem.support, "target": problem.target, "query": problem.query}
    before = tree.map(np.copy, arguments)
    _, residuals = problem.head.forward(problem.p, problem.support, problem.target, problem.query)
    first = tree.map(np.copy, dict(enumerate(problem.head.vjp(problem.p, residuals, problem.gy))))
    again = dict(enumerate(problem.head.vjp(problem.p, residuals, problem.gy)))
    for now, then in ((arguments, before), (again, first)):
        for name, leaf in tree.flatten(now).items():
            np.testing.assert_array_equal(leaf, tree.flatten(then)[name])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("features", [4, 30])
@pytest.mark.parametrize("kind", HEADS)
def test_single_precision_is_near_double(kind, features, scale, backend32):
    sizes = {"ways": 5, "shots": 10, "queries": 8, "features": features}
    # To saturated LSTMs a zero vector is a matter of rounding, and slopes are nearly nothing.
    flaws = "zeros duplicates" if kind in UNORDERED else "duplicates"
    least = dict.fromkeys(("support", "query"), 1 / scale)
    problem = first_of(kind, 0, **sizes, scale=scale, reg_lambda=0.1 * scale**2, flaws=flaws)
    rounded = {
        name: getattr(problem, name).astype(np.float32).astype(np.float64) for name in ("support", "query")
    }
    problem = replace(problem, **rounded)
    expected = problem.by_hand()
    for name, numbers in problem.run(backend32).items():
        assert numbers.dtype == np.float32
        error = np.abs(numbers - expected[name]).max()
        size = 0 if kind in UNORDERED else least.get(name, 1)
        assert error < 1e-3 * max(size, np.abs(expected[name]).max()), name


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("flaws", ["zeros duplicates", "constant"])
@pytest.mark.parametrize("kind", HEADS)
def test_values_and_gradients_are_finite_for_embeddings_without_rank(kind, flaws, scale, backend32):
    problem = first_of(kind, 0, ways=5, shots=10, features=14, flaws=flaws, reg_lambda=1e-6)
    sets = {name: getattr(problem, name) for name in ("support", "query")}
    sets = {name: scale * np.concatenate([x[..., :7], x[..., :7]], axis=-1) for name, x in sets.items()}
    for name, numbers in replace(problem, **sets).run(backend32).items():
        assert np.isfinite(numbers).all(), name
