"""Prototypical networks: what the geometry demands, and that they learn."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mltk
from mltk.algorithms import Prototypical
from mltk.errors import DtypeError, ShapeError, TreeError
from mltk.heads import PrototypicalHead
from mltk.ops.one_hot import one_hot

SETTINGS = [
    {"distance": distance, "temperature": temperature}
    for distance in ("sqeuclidean", "cosine")
    for temperature in (0.7, "learned")
]


def embeddings(rng, *, tasks, ways, shots, queries, features, scale=1.0):
    """Support, labels and query, with unequal class counts, a duplicated row and a zero vector."""
    labels = np.stack([rng.permutation([*range(ways), *rng.integers(0, ways, shots)]) for _ in range(tasks)])
    support = scale * rng.normal(size=(tasks, ways + shots, features))
    support[:, -1] = support[:, 0]
    query = scale * rng.normal(size=(tasks, queries, features))
    query[:, 0] = 0
    return support, labels, query


cases = st.fixed_dictionaries(
    {
        "tasks": st.integers(1, 3),
        "ways": st.integers(1, 5),
        "shots": st.integers(0, 6),
        "queries": st.integers(1, 5),
        "features": st.integers(1, 6),
    }
)


def logits(settings, support, labels, query, ways):
    head = PrototypicalHead(**settings)
    p = {name: np.zeros(shape, support.dtype) for name, shape in head.shapes.items()}
    return head.predict(p, head.fit(p, support, one_hot(labels, ways, support)), query)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@given(case=cases, seed=st.integers(0, 99))
def test_a_class_is_the_mean_of_its_examples(settings, case, seed):
    support, labels, query = embeddings(np.random.default_rng(seed), **case)
    found = logits(settings, support, labels, query, case["ways"])
    for task, own in enumerate(labels):
        means = np.stack([support[task][own == label].mean(axis=0) for label in range(case["ways"])])
        singles = logits(
            settings, means[None], np.arange(case["ways"])[None], query[task : task + 1], case["ways"]
        )
        np.testing.assert_allclose(found[task], singles[0], rtol=1e-10, atol=1e-10)
        prototypes = PrototypicalHead(**settings).fit({}, support, one_hot(labels, case["ways"], support))
        np.testing.assert_allclose(prototypes["prototypes"][task], means, rtol=1e-12, atol=1e-12)


@given(case=cases, seed=st.integers(0, 99))
def test_with_one_shot_the_nearest_neighbour_wins(case, seed):
    rng = np.random.default_rng(seed)
    support, _, query = embeddings(rng, **case | {"shots": 0, "ways": case["ways"] + 1})
    labels = np.tile(rng.permutation(support.shape[1]), (case["tasks"], 1))
    support = rng.normal(size=support.shape)
    found = logits({}, support, labels, query, support.shape[1]).argmax(-1)
    distances = np.linalg.norm(query[:, :, None] - support[:, None], axis=-1)
    np.testing.assert_array_equal(found, np.take_along_axis(labels, distances.argmin(-1), axis=1))


@given(case=cases, seed=st.integers(0, 99))
def test_on_the_sphere_cosine_and_euclidean_distance_agree(case, seed):
    rng = np.random.default_rng(seed)
    labels = np.tile(rng.permutation(case["ways"]), (case["tasks"], 1))
    support = rng.normal(size=(*labels.shape, case["features"] + 1))
    query = rng.normal(size=(case["tasks"], case["queries"], case["features"] + 1))
    support, query = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (support, query))
    euclidean = logits({}, support, labels, query, case["ways"])
    cosine = logits({"distance": "cosine", "temperature": 0.5}, support, labels, query, case["ways"])
    np.testing.assert_allclose(euclidean, cosine - 2, rtol=0, atol=1e-12)  # -|a - b|² = 2 cos - 2


def test_it_learns(backend32):
    learner = Prototypical(mltk.models.mlp([16, 8]), temperature="learned")
    # The classes differ in few of the directions that the examples differ in: distances must be learned.
    tasks = Stretched(mltk.data.Blobs(5, 1, 5, features=16, separation=6.0))
    before = mltk.evaluate(learner, learner.init(backend32, 0), tasks, episodes=100)
    run = mltk.train(
        learner, tasks, backend=backend32, steps=200, meta_batch=8, optimizer=mltk.optim.Adam(0.02)
    )
    after = mltk.evaluate(learner, run.meta_params, tasks, episodes=100)
    assert after.mean > before.mean + 0.2


class Stretched:
    """Tasks with loud noise in half of the features."""

    def __init__(self, tasks):
        self.tasks = tasks

    def sample(self, n_tasks, rng, backend):
        rng = np.random.default_rng(rng)
        episode = self.tasks.sample(n_tasks, rng, backend)
        sets = {}
        for name in ("support_x", "query_x"):
            x = np.array(backend.to_numpy(getattr(episode, name)))
            x[..., ::2] += 6 * rng.normal(size=x[..., ::2].shape)
            sets[name] = backend.asarray(x)
        return replace(episode, **sets)


def test_bad_input():
    network = mltk.models.mlp([4, 8, 3])
    backend = mltk.backend("numpy", dtype="float64")
    images = mltk.models.Sequential([mltk.ops.Convolution(1, 2, 3)])
    learner = Prototypical(images)
    x = np.zeros((1, 2, 1, 8, 8))
    with pytest.raises(ShapeError, match=r"end it with mltk.ops.Flatten\(\)"):
        learner.adapt(learner.init(backend, 0), x, np.asarray([[0, 1]]))
    learner = Prototypical(network, temperature="learned")
    meta = learner.init(backend, 0)
    sine = mltk.data.Sinusoid(3, 3).sample(2, 0, backend)
    with pytest.raises(DtypeError, match="Prototypical is for classification alone"):
        Prototypical(mltk.models.mlp([1, 2])).value_and_grad(mltk.models.mlp([1, 2]).init(backend, 0), sine)
    del meta["head"]
    with pytest.raises(TreeError, match=r"'head.log_temperature' is missing"):
        learner.adapt(meta, np.zeros((1, 2, 4)), np.asarray([[0, 1]]))
    with pytest.raises(TreeError, match="state is not what adapt returns"):
        learner.predict(meta, np.zeros((1, 2, 4)))
