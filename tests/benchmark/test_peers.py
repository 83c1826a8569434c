"""The adapters to other libraries: all compute mltk's meta-gradient, and say why when they cannot."""

import dataclasses
import re
import sys

import numpy as np
import pytest

import mltk
from mltk import ops, tree
from mltk.errors import UnsupportedError
from mltk.peers import HEAD_PEERS, PEERS, Case, to_numpy
from mltk.peers.peer import missing


def small_case(kind, **settings):
    numpy = mltk.backend("numpy", dtype="float64")
    if kind == "mlp":
        model, loss = mltk.models.mlp([1, 8, 8, 1], activation="tanh"), "mse"
        episode = mltk.data.Sinusoid(shots=4, queries=3).sample(3, 0, numpy)
    else:
        model, loss = mltk.models.conv4(1, 16, width=4, out_features=3), "cross_entropy"
        rng, labels = np.random.default_rng(0), np.tile(np.arange(3), (2, 2))
        images = rng.normal(size=(2, 2, 6, 1, 16, 16))
        episode = mltk.Episode(images[0], labels, images[1], labels, ways=3, backend=numpy)
    params = tree.flatten(model.init(numpy, 0))
    return Case(model, loss, params=params, episode=episode, inner_lr=0.05, **settings)


@pytest.fixture(params=PEERS, ids=lambda peer: peer.name)
def peer(request):
    if reason := request.param.available():
        pytest.skip(f"{request.param.name}: {reason}")
    return request.param


@pytest.mark.parametrize("kind", ["mlp", "conv4"])
@pytest.mark.parametrize(
    ("inner_steps", "first_order"), [(0, False), (1, False), (1, True), (2, False), (3, True)]
)
def test_peers_compute_the_same_meta_gradient(peer, kind, inner_steps, first_order):
    case = small_case(kind, inner_steps=inner_steps, first_order=first_order)
    try:
        meta_gradient = peer.prepare(case)
    except UnsupportedError as reason:
        assert (peer.name, kind) == ("torch-batched", "conv4") or (peer.name == "torchopt" and first_order)
        pytest.skip(str(reason))
    maml = mltk.algorithms.MAML(
        case.model, case.loss, inner_lr=0.05, inner_steps=inner_steps, first_order=first_order
    )
    value, expected = maml.value_and_grad(tree.unflatten(case.params), case.episode)
    expected = tree.flatten(expected)
    scale = max(np.abs(leaf).max() for leaf in expected.values())
    for _ in range(2):  # a second call starts from the same parameters
        loss, grads = to_numpy(meta_gradient())
        assert loss == pytest.approx(value, rel=1e-10)
        assert grads.keys() == expected.keys()
        for name, leaf in expected.items():
            assert grads[name].dtype == np.float64
            np.testing.assert_allclose(grads[name], leaf, rtol=0, atol=1e-10 * scale, err_msg=name)


def test_layers_beyond_the_standard_networks_mean_the_same(peer):
    layers = [
        ops.Convolution(2, 3, (3, 2), stride=(2, 1), padding=(1, 0), bias=False),
        ops.BatchNorm(3, eps=0.1),
        ops.SiLU(),
        ops.MaxPool(3, stride=2, padding=1),
        ops.Flatten(),
        ops.Linear(12, 4, bias=False),
        ops.BatchNorm(4, spatial_axes=0),
        ops.Sigmoid(),
        ops.Linear(4, 2),
    ]
    if peer.name == "torch-batched":
        layers = [ops.Linear(6, 4, bias=False), ops.Sigmoid(), ops.Linear(4, 4), ops.SiLU(), ops.Linear(4, 2)]
    numpy = mltk.backend("numpy", dtype="float64")
    model, rng = mltk.models.Sequential(layers), np.random.default_rng(0)
    features = (6,) if peer.name == "torch-batched" else (2, 8, 5)
    x, labels = rng.normal(size=(2, 3, 4, *features)), np.array([[0, 1, 0, 1]] * 3)
    episode = mltk.Episode(x[0], labels, x[1], labels, ways=2, backend=numpy)
    params = tree.flatten(model.init(numpy, 0))
    case = Case(model, "cross_entropy", params=params, episode=episode, inner_lr=0.05, inner_steps=1)
    maml = mltk.algorithms.MAML(model, "cross_entropy", inner_lr=0.05, inner_steps=1)
    _, expected = maml.value_and_grad(tree.unflatten(params), episode)
    _, grads = to_numpy(peer.prepare(case)())
    for name, leaf in tree.flatten(expected).items():
        np.testing.assert_allclose(grads[name], leaf, rtol=1e-9, atol=1e-10, err_msg=name)


def test_an_operation_without_counterpart_is_refused(peer):
    case = small_case("mlp", inner_steps=1)
    model = mltk.models.Sequential([ops.Linear(1, 1), ops.LSTM(1, 1)])
    params = tree.flatten(model.init(case.episode.backend, 0))
    with pytest.raises(UnsupportedError):
        peer.prepare(Case(model, "mse", params=params, episode=case.episode))()


@pytest.mark.parametrize("peer", [*PEERS, *HEAD_PEERS], ids=lambda peer: peer.name)
def test_a_missing_library_is_a_reason_and_no_error(peer, monkeypatch):
    own = {"torch-func": "torch", "torch-loop": "torch", "torch-batched": "torch"}.get(peer.name, peer.name)
    monkeypatch.setitem(sys.modules, own, None)
    assert re.fullmatch(rf'not installed: pip install "?{own}(>=[\d.]+")?', peer.available())


def test_a_broken_library_is_a_reason_and_no_error(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("raise RuntimeError('needs an older Torch')")
    (tmp_path / "half_library.py").write_text("import its_own_missing_dependency")
    monkeypatch.syspath_prepend(tmp_path)
    assert "needs an older Torch" in missing("broken_library")
    assert "its_own_missing_dependency" in missing("half_library")


def test_statistics_that_peers_do_not_know_are_refused(peer):
    case = small_case("conv4", inner_steps=1)
    network = mltk.models.conv4(1, 16, width=4, out_features=3, statistics="support")
    with pytest.raises(UnsupportedError):
        peer.prepare(dataclasses.replace(case, model=network))
