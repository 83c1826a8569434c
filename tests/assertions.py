"""What tests say of results: trees of arrays are equal up to rounding."""

from collections.abc import Mapping

import numpy as np

from mltk import tree


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
    largest = max(np.abs(leaf).max(initial=0) for leaf in expected.values())
    agree(found, expected, rtol=0, atol=tolerance * largest)
