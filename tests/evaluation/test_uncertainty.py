"""The parts of an ensemble's uncertainty: an identity, its bounds, and what SciPy says."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

import mltk
from mltk.errors import MltkError
from mltk.evaluation import uncertainty


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 1000), st.sampled_from([0.02, 1.0, 300.0]))
def test_total_is_aleatoric_and_epistemic(members, ways, seed, concentration):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(ways, concentration), (members, 3, 2))
    total, aleatoric, epistemic = uncertainty(p)
    np.testing.assert_allclose(total, aleatoric + epistemic, atol=1e-12)
    np.testing.assert_allclose(total, entropy(p.mean(axis=0), axis=-1), atol=1e-12)
    np.testing.assert_allclose(aleatoric, entropy(p, axis=-1).mean(axis=0), atol=1e-12)
    assert (epistemic >= 0).all()
    assert (epistemic <= math.log(members) + 1e-12).all()


def test_members_that_hardly_differ_are_told_apart():
    """A difference of entropies would lose this: it is below their rounding errors."""
    shift = 1e-9
    p = np.asarray([[[[0.5 + shift, 0.5 - shift]]], [[[0.5 - shift, 0.5 + shift]]]])
    found = uncertainty(p)
    assert 0 <= found.epistemic[0, 0] < 1e-15
    agreed = uncertainty(np.tile([0.3, 0.7], (4, 2, 3, 1)))
    np.testing.assert_allclose(agreed.epistemic, 0, atol=1e-15)


def test_torch_has_the_same_numbers():
    p = np.random.default_rng(0).dirichlet(np.ones(3), (4, 2, 5))
    torch = mltk.backend("torch", dtype="float64")
    for ours, theirs in zip(uncertainty(p), uncertainty(torch.asarray(p)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_no_ensemble_is_told():
    with pytest.raises(MltkError, match=r"expected \(S, T, M, ways\)"):
        uncertainty(np.full((2, 3, 2), 0.5))
    with pytest.raises(MltkError, match="sum over classes of 2"):
        uncertainty(np.ones((2, 2, 3, 2)))
