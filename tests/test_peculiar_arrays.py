"""Arrays whose entries are not simply their numbers are refused by name, wherever they are given."""

import warnings

import numpy as np
import pytest
import torch

import mltk
from mltk.errors import ArrayError


def masked():
    return np.ma.masked_array(np.ones((1, 2, 3), np.float32), mask=np.eye(3)[None, :2] > 0)


def matrix():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.matrix(np.ones((2, 3), np.float32))


KINDS = {
    "masked": ("numpy", masked, "is a masked array; expected a plain one"),
    "matrix": ("numpy", matrix, r"is a numpy\.matrix"),
    "sparse": (
        "torch",
        lambda: torch.ones(1, 2, 3).to_sparse(),
        r"is a tensor of layout sparse_coo; .*to_dense",
    ),
    "compressed": (
        "torch",
        lambda: torch.ones(1, 2, 3).to_sparse_csr(),
        r"is a tensor of layout sparse_csr; .*to_dense",
    ),
    "mkldnn": ("torch", lambda: torch.ones(1, 2, 3).to_mkldnn(), "is a tensor of layout mkldnn"),
    "nested": (
        "torch",
        lambda: torch.nested.nested_tensor([torch.ones(2, 3)], layout=torch.strided),
        "is a nested tensor",
    ),
    "jagged": (
        "torch",
        lambda: torch.nested.nested_tensor([torch.ones(2, 3)], layout=torch.jagged),
        "is a nested tensor",
    ),
    "quantised": (
        "torch",
        lambda: torch.quantize_per_tensor(torch.ones(1, 2, 3), 0.1, 0, torch.qint8),
        r"is a quantised tensor; .*dequantize",
    ),
}
LEARNER = mltk.algorithms.MAML(mltk.models.mlp([3, 1]), "mse")
PROTOTYPICAL = mltk.algorithms.Prototypical(mltk.models.Sequential([]))


def doors(backend, bad):
    """Each way to hand over an array: what it is called there, and the call."""
    x, y = (backend.asarray(np.ones((1, 2, width))) for width in (3, 1))
    params = LEARNER.init(backend, 0)
    state = LEARNER.adapt(params, x, y)
    yield "values", lambda: backend.asarray(bad)
    yield "array_or_tree", lambda: mltk.backend_of(bad)
    yield "array_or_tree", lambda: mltk.backend_of({"w": x, "b": bad})
    yield "support_x", lambda: mltk.Episode(bad, y, x, y)
    yield "query_y", lambda: mltk.Episode(x, y, x, bad)
    yield "query_x", lambda: mltk.Episode(x, y, bad, y, backend=backend)
    yield "support_x", lambda: LEARNER.adapt(params, bad, y)
    yield "support_y", lambda: LEARNER.adapt(params, x, bad)
    yield "query_x", lambda: LEARNER.predict(state, bad)
    yield "support_x", lambda: PROTOTYPICAL.adapt({}, bad, y)
    yield "meta_params", lambda: LEARNER.adapt({"0": {**params["0"], "weight": bad}}, x, y)
    yield "b", lambda: mltk.pairwise_sqeuclidean(x, bad)
    yield "a", lambda: mltk.pairwise_cosine_similarity(bad, x)
    yield "embeddings", lambda: mltk.ridge_regression(bad, y, 0.1)
    yield "query", lambda: mltk.heads.matching_log_probabilities(x, y, bad)
    yield "x", lambda: mltk.magic_box(bad)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:.*(sparse|Sparse|nested|quantize|torch.ao).*")
def test_peculiar_arrays_are_refused_by_name(kind):
    name, make, message = KINDS[kind]
    for argument, call in doors(mltk.backend(name), make()):
        with pytest.raises(ArrayError, match=f"^{argument} {message}"):
            call()


def test_other_subclasses_are_arrays(tmp_path):
    file = np.memmap(tmp_path / "x", np.float32, "w+", shape=(1, 2, 3))
    assert mltk.backend_of(file) == mltk.backend("numpy")
    weight = torch.nn.Parameter(torch.ones(1, 2, 3))
    assert mltk.backend_of(weight) == mltk.backend("torch")
