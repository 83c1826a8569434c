"""The learner Matching: its gradient by every engine, what it learns, and the settings that it refuses."""

import numpy as np
import pytest
import torch

import mltk
from mltk import tree
from mltk.algorithms import Matching
from mltk.errors import SettingError, ShapeError
from mltk.heads import FullContextMatchingHead, MatchingHead, matching_loss
from mltk.training.config import from_config, to_config

BLOBS = mltk.data.Blobs(3, 2, 4, features=6, separation=4.0)
CONV4 = mltk.models.conv4(1, 16, width=3)
MLP = mltk.models.mlp([6, 8, 5], activation="tanh")

contexts = pytest.mark.parametrize("full_context", [False, True], ids=["plain", "full context"])


def images(backend):
    """Two tasks of three ways, in which the classes have different numbers of examples."""
    rng = np.random.default_rng(0)
    support_x, query_x = (backend.asarray(rng.normal(size=(2, n, 1, 16, 16))) for n in (4, 3))
    support_y = backend.asarray(np.asarray([[0, 1, 2, 1], [2, 2, 0, 1]]))
    query_y = backend.asarray(np.asarray([[0, 1, 2], [2, 0, 0]]))
    return mltk.Episode(support_x, support_y, query_x, query_y, ways=3, backend=backend)


def reference(learner, meta_params, episode):
    """Value and gradient by autograd through the definition, task by task."""
    flat = {name: leaf.detach().clone().requires_grad_() for name, leaf in tree.flatten(meta_params).items()}
    params = tree.unflatten(flat)
    losses = []
    for task in range(episode.support_x.shape[0]):
        one = slice(task, task + 1)
        rows = episode.support_x.shape[1]
        x = torch.cat([episode.support_x[one], episode.query_x[one]], dim=1)
        embedded = learner.embedding.apply(params, x)  # both sets are one for batch norm
        target = torch.eye(episode.ways, dtype=x.dtype)[episode.support_y[one]]
        p = params.get("head", {})
        y = learner.head.predict(p, learner.head.fit(p, embedded[:, :rows], target), embedded[:, rows:])
        losses.append(torch.nn.functional.nll_loss(y[0], episode.query_y[task]))
    value = torch.stack(losses).mean()
    value.backward()
    return value.item(), {name: leaf.grad.numpy() for name, leaf in flat.items()}


@contexts
@pytest.mark.parametrize("network", ["mlp", "conv4"])
def test_value_and_gradient_are_those_of_autograd(backend64, network, full_context):
    torch64 = mltk.backend("torch", dtype="float64")
    embedding = MLP if network == "mlp" else CONV4
    learner = Matching(embedding, full_context=full_context, processing_steps=2)

    def start(backend):
        episode = BLOBS.sample(3, 0, backend) if network == "mlp" else images(backend)
        return learner.init(backend, 0), episode

    expected, grads = reference(learner, *start(torch64))
    value, found = learner.value_and_grad(*start(backend64))
    assert float(value) == pytest.approx(expected, abs=1e-10)
    found = tree.flatten(found)
    assert set(found) == set(grads) == set(learner.meta_shapes)
    for name, grad in grads.items():
        np.testing.assert_allclose(
            backend64.to_numpy(found[name]), grad, rtol=0, atol=1e-10 * (1 + np.abs(grad).max()), err_msg=name
        )


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"full_context": True, "features": 4}, "features is 4; expected 5"),
        ({"full_context": True, "processing_steps": 0}, "processing_steps is 0"),
        ({"temperature": 0.02}, "temperature is 0.02; expected at least 0.03"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"full_context": True, "temperature": 0.0}, "temperature is 0.0"),
        ({"full_context": "yes"}, "full_context is 'yes'"),
        ({"features": 0}, "features is 0"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(SettingError, match=message):
        Matching(MLP, **settings)


def test_embeddings_of_another_width_than_the_full_context(backend64):
    silent = mltk.models.Sequential([mltk.ops.Convolution(1, 2, 3), mltk.ops.GlobalAveragePool()])
    learner = Matching(silent, full_context=True, features=3)
    with pytest.raises(ShapeError, match=r"\(2, 4, 2\).*3"):
        learner.value_and_grad(learner.init(backend64, 0), images(backend64))


def test_it_goes_to_text_and_back():
    learner = Matching(mltk.models.conv4(1, 16, width=2), full_context=True, processing_steps=2)
    assert from_config(to_config(learner)) == learner
