"""What tests say of results: trees of arrays are equal up to rounding, and gradients are slopes."""

from collections.abc import Mapping

import numpy as np
from routes import ROUTES

from mltk import tree


def same(found, expected):
    """Arrays, or nested dicts of them, have equal names, shapes, dtypes and numbers, to the last bit."""
    found, expected = (
        tree.flatten(each if isinstance(each, Mapping) else {"": each}) for each in (found, expected)
    )
    assert found.keys() == expected.keys()
    for name, leaf in expected.items():
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(leaf), err_msg=name, strict=True)


def agree(found, expected, *, rtol=1e-9, atol=1e-12):
    """Arrays, or nested dicts of them, have equal names, shapes and, up to rounding, finite numbers.

    Args:
        rtol: The allowed error relative to the largest number of each array.
        atol: What is added to it; one number, or one for each name.
    """
    if isinstance(expected, Mapping):
        assert set(found) == set(expected)
        for name in expected:
            own = atol[name] if isinstance(atol, Mapping) and name in atol else atol
            _name_it(name, found[name], expected[name], rtol, own)
        return
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert np.isfinite(expected).all()
    largest = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=rtol * largest + atol)


def _name_it(name, found, expected, rtol, atol):
    try:
        agree(found, expected, rtol=rtol, atol=atol)
    except AssertionError as error:
        raise AssertionError(f"{name}: {error}") from None


def same_gradient(found, expected, tolerance=1e-10):
    """Values and gradients by name agree, relative to the largest number of the whole gradient."""
    np.testing.assert_allclose(float(found[0]), float(expected[0]), rtol=tolerance)
    found, expected = (
        {name: np.asarray(leaf) for name, leaf in tree.flatten(grads).items()}
        for _, grads in (found, expected)
    )
    largest = max((np.abs(leaf).max(initial=0) for leaf in expected.values()), default=0)
    agree(found, expected, rtol=0, atol=tolerance * largest)


def meta_gradient(learner, backend, episode, *, seed=0):
    """The value of a learner at its start, and its gradient."""
    return learner.value_and_grad(learner.init(backend, seed), episode)


def routes_agree(learner, episode_on, *, seed=0, tolerance=1e-10):
    """One value and gradient by NumPy and by both engines of Torch; it is returned.

    Args:
        episode_on: From a backend to the episode on it.
    """
    expected, *others = (
        meta_gradient(learner, backend, episode_on(backend), seed=seed) for backend in ROUTES
    )
    assert tree.flatten(expected[1]).keys() == tree.flatten(learner.init(ROUTES[0], seed)).keys()
    for found in others:
        same_gradient(found, expected, tolerance)
    return expected


def slopes(value, grads, at, *, step=1e-5, seed=0):
    """The slope of a function along a random direction: by its gradient, and by a central difference.

    Args:
        value: From parameters like ``at`` to a number.
    """
    rng = np.random.default_rng(seed)
    along = tree.map(lambda leaf: rng.standard_normal(np.shape(leaf)), at)
    slope = sum(float(np.sum(g * d)) for g, d in zip(tree.leaves(grads), tree.leaves(along), strict=True))
    ahead, behind = (value(tree.map(lambda p, d, s=s: p + s * d, at, along)) for s in (step, -step))
    return slope, (float(ahead) - float(behind)) / (2 * step)
