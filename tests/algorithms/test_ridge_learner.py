"""Ridge regression as a learner: its gradient, what it learns; bad input and settings are named."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from assertions import routes_agree

import mltk
from mltk import tree
from mltk.algorithms import RidgeRegression
from mltk.algorithms.embedding_based import EmbeddingBased
from mltk.errors import DtypeError, LabelError, MismatchError, SettingError, ShapeError
from mltk.heads import RidgeHead, ridge_regression


def test_gradient_of_a_regression_through_head_and_embedding_is_that_of_autograd():
    learner = RidgeRegression(mltk.models.mlp([1, 8, 6], activation="tanh"))
    _, grads = routes_agree(learner, lambda backend: mltk.data.Sinusoid(5, 6).sample(3, 0, backend))
    assert {name: leaf.shape for name, leaf in tree.flatten(grads).items()} == learner.meta_shapes


def test_learns_to_regress_sinusoids():
    learner = RidgeRegression(mltk.models.mlp([1, 40, 40], activation="tanh"), reg_lambda=1.0, scale=1.0)
    run = mltk.train(
        learner, mltk.data.Sinusoid(10, 10), backend=mltk.backend("numpy"), steps=400, meta_batch=16, seed=0
    )
    backend = mltk.backend("numpy")
    episode = mltk.data.Sinusoid(10, 10).sample(200, np.random.default_rng(1), backend)
    untrained, _ = learner.value_and_grad(learner.init(backend, 0), episode)
    trained, _ = learner.value_and_grad(run.meta_params, episode)
    assert trained < 0.2 * untrained
    state = learner.adapt(run.meta_params, episode.support_x, episode.support_y)
    error = np.mean((learner.predict(state, episode.query_x) - episode.query_y) ** 2)
    assert error == pytest.approx(float(trained), rel=1e-4)


X, Y = np.ones((2, 3, 4)), np.ones((2, 3, 2))
LABELS = np.zeros((2, 3), dtype=np.int64)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((X[0], Y), {}, ShapeError, r"embeddings has shape \(3, 4\); expected \(T, N, d\)"),
        ((X[..., None], Y), {}, ShapeError, r"embeddings has shape \(2, 3, 4, 1\); expected \(T, N, d\)"),
        ((X > 0, Y), {}, DtypeError, "embeddings has dtype bool; expected floating"),
        ((X, Y[:, :2]), {}, ShapeError, r"targets has shape \(2, 2, 2\); expected \(2, 3, 'o'\) or \(2, 3\)"),
        ((X, LABELS[:, :2]), {}, ShapeError, r"targets has shape \(2, 2\); expected labels \(2, 3\)"),
        ((X, Y > 0), {}, DtypeError, "targets has dtype bool"),
        ((X, LABELS - 1), {}, LabelError, "targets holds the label -1; expected none below 0"),
        ((X, LABELS + 2), {"ways": 2}, LabelError, r"targets holds the label 2; expected 0\.\.1"),
        ((X, LABELS), {"ways": 0}, SettingError, "ways is 0; expected an integer of at least 1"),
        ((X, Y), {"ways": 2}, SettingError, "targets has dtype float64; expected integer labels"),
        ((X, Y.astype(np.float32)), {}, MismatchError, "targets"),
        ((X, Y), {"reg_lambda": 0.0}, SettingError, "reg_lambda is 0.0; expected a finite number above 0"),
        ((X, Y), {"reg_lambda": -1}, SettingError, "reg_lambda is -1"),
        ((X, Y), {"reg_lambda": np.nan}, SettingError, "reg_lambda is nan"),
        (
            (X, Y),
            {"reg_lambda": np.ones(3)},
            ShapeError,
            r"reg_lambda has shape \(3,\); expected \(\) or \(2,\)",
        ),
        ((X, Y), {"scale": "large"}, SettingError, "scale is 'large'; expected a finite number or an array"),
        ((X, Y), {"scale": np.ones(2, np.float32)}, MismatchError, "scale holds an array of numpy float32"),
        ((X, Y), {"use_woodbury": 1}, SettingError, "use_woodbury is 1; expected True or False"),
        ((X, Y), {"bias": "yes"}, SettingError, "bias is 'yes'; expected True or False"),
    ],
)
def test_bad_input_is_named(arguments, options, error, message):
    options = {"reg_lambda": 1.0} | options
    with pytest.raises(error, match=message):
        ridge_regression(*arguments, **options)


def test_a_learner_has_a_head_and_its_settings():
    class Headless(EmbeddingBased):
        pass

    @dataclass(frozen=True)
    class Unset(EmbeddingBased):
        head_type: ClassVar = RidgeHead

    for kind, expected in (
        (Headless, "Headless has no head_type"),
        (Unset, "Unset has no setting scale"),
    ):
        with pytest.raises(SettingError, match=f"{expected}; expected"):
            kind(mltk.models.mlp([1, 2]))
