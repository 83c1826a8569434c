"""A training that diverges says so once."""

import warnings
from dataclasses import dataclass

import pytest

import mltk
from mltk import tree
from mltk.errors import DivergedError, NotFiniteError


def test_divergence_is_one_error_and_no_warnings():
    maml = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse", inner_lr=1e4, inner_steps=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DivergedError, match="step 1"):
            mltk.train(maml, mltk.data.Sinusoid(5, 5), backend=mltk.backend("numpy"), steps=50)


@dataclass(frozen=True)
class LooksAtItsNumbers(mltk.algorithms.MAML):
    """A learner that raises by itself once its parameters have moved three times."""

    def value_and_grad(self, meta_params, episode):
        value, _ = super().value_and_grad(meta_params, episode)
        if meta_params["0"]["bias"][0] > 2.5:
            raise NotFiniteError("x holds -inf")
        return value, tree.map(lambda leaf: 0 * leaf - 1, meta_params)


def test_a_learner_that_finds_its_own_numbers_infinite_has_diverged(tmp_path):
    with pytest.raises(DivergedError, match=r"x holds -inf, at step 4; the last good checkpoint is step 2"):
        mltk.train(
            LooksAtItsNumbers(mltk.models.mlp([1, 1]), "mse"),
            mltk.data.Sinusoid(5, 5),
            backend=mltk.backend("numpy"),
            optimizer=mltk.optim.SGD(1.0),
            steps=9,
            out=tmp_path / "run",
            checkpoint_every=2,
        )
