"""The learner Matching: its gradient by every engine, what it learns, and the settings that it refuses."""

import numpy as np
import pytest

import mltk
from mltk.algorithms import Matching
from mltk.errors import SettingError, ShapeError
from mltk.heads import FullContextMatchingHead, MatchingHead, matching_loss

BLOBS = mltk.data.Blobs(3, 2, 4, features=6, separation=4.0)
MLP = mltk.models.mlp([6, 8, 5], activation="tanh")

contexts = pytest.mark.parametrize("full_context", [False, True], ids=["plain", "full context"])


def images(backend):
    """Two tasks of three ways, in which the classes have different numbers of examples."""
    rng = np.random.default_rng(0)
    support_x, query_x = (backend.asarray(rng.normal(size=(2, n, 1, 16, 16))) for n in (4, 3))
    support_y = backend.asarray(np.asarray([[0, 1, 2, 1], [2, 2, 0, 1]]))
    query_y = backend.asarray(np.asarray([[0, 1, 2], [2, 0, 0]]))
    return mltk.Episode(support_x, support_y, query_x, query_y, ways=3, backend=backend)


@contexts
def test_loss_falls_and_predictions_are_log_probabilities(backend32, full_context):
    learner = Matching(MLP, full_context=full_context, processing_steps=2)
    run = mltk.train(learner, BLOBS, backend=backend32, steps=60, meta_batch=8, seed=0)
    episode = BLOBS.sample(100, 1, backend32)
    before, _ = learner.value_and_grad(learner.init(backend32, 0), episode)
    after, _ = learner.value_and_grad(run.meta_params, episode)
    assert float(after) < float(before) - 0.02
    state = learner.adapt(run.meta_params, episode.support_x, episode.support_y)
    y = backend32.to_numpy(learner.predict(state, episode.query_x))
    assert y.shape == (100, 12, 3)
    np.testing.assert_allclose(np.exp(y).sum(-1), 1, rtol=0, atol=1e-5)
    labels = backend32.to_numpy(episode.query_y)[..., None]
    assert -np.take_along_axis(y, labels, -1).mean() == pytest.approx(float(after), abs=1e-5)


def test_the_plain_learner_is_the_loss_of_its_embeddings(backend64):
    learner = Matching(MLP)
    params, episode = learner.init(backend64, 0), BLOBS.sample(3, 0, backend64)
    support, query = (MLP.apply(params, x) for x in (episode.support_x, episode.query_x))
    value, _ = learner.value_and_grad(params, episode)
    expected = matching_loss(support, episode.support_y, query, episode.query_y)
    assert float(value) == pytest.approx(float(expected), abs=1e-12)


def test_the_embedding_says_how_wide_it_is():
    assert Matching(MLP).head == MatchingHead()
    assert Matching(MLP, full_context=True).head == FullContextMatchingHead(5)
    conv4 = mltk.models.conv4(in_channels=1, image_size=28)
    assert Matching(conv4, full_context=True, processing_steps=4).head == FullContextMatchingHead(64, 4)
    assert Matching(MLP, temperature=0.1).head == MatchingHead(0.1)
    assert Matching(MLP, full_context=True, temperature=0.1).head.temperature == 0.1
    activated = mltk.models.Sequential([mltk.ops.Linear(6, 7), mltk.ops.ReLU()])
    assert Matching(activated, full_context=True).head.features == 7
    silent = mltk.models.Sequential([mltk.ops.Convolution(1, 2, 3), mltk.ops.GlobalAveragePool()])
    assert Matching(silent, full_context=True, features=2).head.features == 2
    with pytest.raises(SettingError, match=r"features=\.\.\."):
        Matching(silent, full_context=True)
    with pytest.raises(SettingError, match="features is 4; expected 5"):
        Matching(MLP, full_context=True, features=4)


def test_embeddings_of_another_width_than_the_full_context(backend64):
    silent = mltk.models.Sequential([mltk.ops.Convolution(1, 2, 3), mltk.ops.GlobalAveragePool()])
    learner = Matching(silent, full_context=True, features=3)
    with pytest.raises(ShapeError, match=r"\(2, 4, 2\).*3"):
        learner.value_and_grad(learner.init(backend64, 0), images(backend64))
