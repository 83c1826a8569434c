"""Cholesky factors and what they solve, in every array library."""

import array_api_strict
import numpy as np
import pytest

from mltk.ops.kernels import Kernels, kernels_of


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)], ids=str)
def test_cholesky_kernels_solve_systems(backend64, leading):
    rng = np.random.default_rng(0)
    root, b = rng.normal(size=(*leading, 4, 4)), rng.normal(size=(*leading, 4, 2))
    a = root @ root.mT + np.eye(4)
    for convert in (backend64.asarray, array_api_strict.asarray):
        kernels = kernels_of(convert(a))
        factor = kernels.cholesky(convert(a))
        np.testing.assert_allclose(np.asarray(factor), np.linalg.cholesky(a), rtol=1e-12, atol=1e-12)
        found = np.asarray(kernels.cholesky_solve(factor, convert(b)))
        np.testing.assert_allclose(a @ found, b, rtol=0, atol=1e-10)
    assert type(kernels) is Kernels


def test_matrix_that_is_not_positive_definite_has_no_factor(backend64):
    a = np.stack([np.eye(2), -np.eye(2), 4 * np.eye(2)])
    factor = backend64.to_numpy(kernels_of(backend64.asarray(a)).cholesky(backend64.asarray(a)))
    np.testing.assert_array_equal(factor[[0, 2]], np.sqrt(a[[0, 2]]))
    assert np.isnan(factor[1][np.tril_indices(2)]).all()
