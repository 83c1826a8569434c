"""The adapters to heads of other libraries: what they are against mltk's, where they can be used."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from mltk.errors import UnsupportedError
from mltk.heads.matching import MatchingHead
from mltk.heads.prototypes import PrototypicalHead
from mltk.peers import HEAD_PEERS
from mltk.peers.peer import missing

WAYS = 3
SETTINGS = {"ways": WAYS, "temperature": 1.0, "distance": "sqeuclidean"}


@pytest.fixture(params=HEAD_PEERS, ids=lambda peer: peer.name)
def peer(request):
    if reason := request.param.available():
        pytest.skip(f"{request.param.name}: {reason}")
    return request.param


def embeddings(dtype):
    rng, labels = np.random.default_rng(0), np.array([[0, 1, 1, 2, 2, 2], [1, 1, 0, 2, 0, 2]])
    x = rng.normal(size=(2, 6, 4)).astype(dtype), rng.normal(size=(2, 5, 4)).astype(dtype)
    return SimpleNamespace(
        support_x=torch.tensor(x[0], requires_grad=True),
        query_x=torch.tensor(x[1], requires_grad=True),
        support_y=torch.tensor(labels),
        query_y=torch.tensor(rng.integers(0, WAYS, (2, 5))),
    )


def ours(head, data):
    target = functional.one_hot(data.support_y, WAYS).to(data.support_x.dtype)
    return head.forward({}, data.support_x.detach(), target, data.query_x.detach())[0]


def test_prototypes_are_the_same_and_distances_are_not_squared(peer):
    data = embeddings("float64")
    logits = peer.logits("prototypical", {}, data, SETTINGS)
    expected = ours(PrototypicalHead(), data)
    torch.testing.assert_close(-logits.square(), expected)
    assert (logits - expected).abs().max() > 0.1


def test_queries_of_matching_networks_are_not_normalised(peer):
    data = embeddings("float32")
    logits = peer.logits("matching", {}, data, SETTINGS)
    expected = ours(MatchingHead(), data)
    assert (logits - expected).abs().max() > 0.01
    # With queries of length 1 only what it adds to each probability is left.
    data.query_x = functional.normalize(data.query_x.detach(), dim=-1)
    logits = peer.logits("matching", {}, data, SETTINGS)
    torch.testing.assert_close(logits, (expected.exp() + 1e-6).log(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("computation", ["prototypical", "matching"])
def test_gradients_flow_to_the_embeddings(peer, computation):
    data = embeddings("float32")
    logits = peer.logits(computation, {}, data, SETTINGS)
    assert logits.shape == (2, 5, WAYS)
    functional.cross_entropy(logits.flatten(0, 1), data.query_y.flatten()).backward()
    assert all(x.grad.abs().max() > 0 for x in (data.support_x, data.query_x))


def test_what_the_library_lacks_is_refused(peer):
    data = embeddings("float64")
    for computation, changes in (
        ("prototypical", {"distance": "cosine"}),
        ("prototypical", {"temperature": 2.0}),
        ("matching", {"temperature": 0.5}),
        ("matching", {}),  # in double precision
        ("ridge", {}),
    ):
        with pytest.raises(UnsupportedError):
            peer.logits(computation, {}, data, {**SETTINGS, **changes})
    with pytest.raises(UnsupportedError):
        peer.logits("prototypical", {"log_temperature": torch.zeros(())}, data, SETTINGS)


def test_a_library_whose_dependency_is_broken_is_a_reason(tmp_path, monkeypatch):
    (tmp_path / "heads_library").mkdir()
    (tmp_path / "heads_library" / "__init__.py").write_text("")
    (tmp_path / "heads_library" / "methods.py").write_text("raise RuntimeError('no operator nms')")
    monkeypatch.syspath_prepend(tmp_path)
    assert missing("heads_library") is None
    assert "no operator nms" in missing("heads_library.methods")


@pytest.mark.parametrize("peer", HEAD_PEERS, ids=lambda peer: peer.name)
def test_computations_are_known_to_the_oracle(peer):
    from mltk.oracle.computations import computations

    assert peer.computations
    assert set(peer.computations) <= computations().keys()
