"""Every transform of gradients against independent derivatives, on every library, at its start and purely."""

import copy
from dataclasses import replace

import array_api_strict
import numpy as np
import pytest
import torch
from assertions import agree
from hypothesis import given, settings
from hypothesis import strategies as st
from transform_problems import KINDS, NETWORKS, by_autograd, inner, problems

from mltk import tree

EXAMPLES = 40
STEEP = "Network of the paper"  # its features change too fast near zero for differences


def over(kinds=KINDS, **options):
    """Run a test for each kind of transform and over problems of that kind."""

    def decorate(test):
        @pytest.mark.parametrize("kind", kinds)
        @settings(max_examples=EXAMPLES)
        @given(data=st.data())
        def run(kind, data):
            test(data.draw(problems(kind, **options)))

        return run

    return decorate


@over()
def test_the_pullback_is_that_of_autograd(problem):
    agree(problem.results(), by_autograd(problem))


@over()
def test_libraries_agree(problem):
    expected = problem.results()
    agree(problem.results(torch.as_tensor), expected)
    agree(problem.results(array_api_strict.asarray), expected)


@over([kind for kind in KINDS if kind != STEEP], manners=("generic", "zero"), tasks=(1, 3))
def test_the_pullback_is_that_of_central_differences(problem):
    found = problem.results()
    pulled = tuple(tree.unflatten(found[name]) for name in ("p", "grads", "state"))
    expected = inner(pulled, problem.along)
    step = 1e-6

    def moved(sign):
        point = zip((problem.p, problem.grads, problem.state), problem.along, strict=True)
        return problem.objective(*(tree.map(lambda x, d: x + sign * step * d, xs, ds) for xs, ds in point))

    slope = (moved(1) - moved(-1)) / (2 * step)
    size = max(np.max(np.abs(leaf), initial=0.0) for values in found.values() for leaf in values.values())
    assert slope == pytest.approx(expected, rel=1e-5, abs=1e-5 * (1 + size))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "Clip" not in kind and kind != "chain"])
@pytest.mark.parametrize("network", NETWORKS)
def test_training_starts_at_plain_gradient_descent(kind, network):
    """With the initial arrays, directions are the gradients to the last bit, step after step."""
    rng = np.random.default_rng(0)
    transform = KINDS[kind]
    p = transform.init(network, rng)
    grads = tree.unflatten({name: rng.standard_normal((4, *shape)) for name, shape in network.items()})
    state = transform.start(grads)
    for _ in range(2):
        directions, state, _ = transform.forward(p, grads, state)
        for name, leaf in tree.flatten(grads).items():
            np.testing.assert_array_equal(tree.flatten(directions)[name], leaf)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_learned_arrays_are_those_that_shapes_tells(kind, network):
    p = tree.flatten(KINDS[kind].init(network, np.random.default_rng(0)))
    assert {name: leaf.shape for name, leaf in p.items()} == KINDS[kind].shapes(network)
    assert all(isinstance(leaf, np.ndarray) and leaf.dtype == np.float64 for leaf in p.values())


@over(tasks=(3,))
def test_arguments_stay_as_they_are(problem):
    before = copy.deepcopy(problem)
    problem.results()
    for name in ("p", "grads", "state"):
        expected = tree.flatten(getattr(before, name))
        for key, leaf in tree.flatten(getattr(problem, name)).items():
            np.testing.assert_array_equal(leaf, expected[key])


@over(tasks=(3,))
def test_tasks_do_not_touch_each_other(problem):
    """What comes out for a task is what comes out for it alone."""
    together = problem.results()
    shapes = problem.transform.shapes(problem.network)
    for task in range(problem.tasks):
        only = slice(task, task + 1)

        def own(leaf, only=only):
            return leaf[only]

        p = {
            name: leaf[only] if leaf.ndim > len(shapes[name]) else leaf
            for name, leaf in tree.flatten(problem.p).items()
        }
        alone = replace(
            problem,
            tasks=1,
            p=tree.unflatten(p),
            grads=tree.map(own, problem.grads),
            state=tree.map(own, problem.state),
            cotangents=tuple(tree.map(own, values) for values in problem.cotangents),
        ).results()
        agree(
            alone, {name: {k: leaf[only] for k, leaf in values.items()} for name, values in together.items()}
        )


@over(manners=("zero",))
def test_zero_gradients_give_finite_derivatives(problem):
    for results in (problem.results(), by_autograd(problem)):
        assert all(np.all(np.isfinite(leaf)) for values in results.values() for leaf in values.values())
