"""A training that diverges says so once."""

import warnings

import pytest

import mltk
from mltk.errors import DivergedError


def test_divergence_is_one_error_and_no_warnings():
    maml = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse", inner_lr=1e4, inner_steps=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DivergedError, match="step 1"):
            mltk.train(maml, mltk.data.Sinusoid(5, 5), backend=mltk.backend("numpy"), steps=50)
