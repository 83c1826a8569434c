"""Prototypical networks: three derivations of one gradient, and what the geometry demands."""

from dataclasses import replace

import numpy as np
import pytest
from head_derivations import BACKENDS64, run_head
from hypothesis import given
from hypothesis import strategies as st

import mltk
from mltk import tree
from mltk.algorithms import Prototypical
from mltk.errors import DtypeError, SettingError, ShapeError, TreeError
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
@given(case=cases, seed=st.integers(0, 99), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_three_derivations_agree(settings, case, seed, scale):
    rng = np.random.default_rng(seed)
    support, labels, query = embeddings(rng, **case, scale=scale)
    head = PrototypicalHead(**settings)
    p = {name: rng.normal(size=shape) for name, shape in head.shapes.items()}
    gy = rng.normal(size=(case["tasks"], case["queries"], case["ways"]))
    target = one_hot(labels, case["ways"], support)
    expected, *others = (
        run_head(head, backend, p, support, target, query, gy) for backend in BACKENDS64.values()
    )
    # What rounding is measured by: each cotangent is a difference of terms about so large.
    size = np.abs(gy).max() * (max(scale, 1e-3) if settings["distance"] == "sqeuclidean" else 1 / scale)
    for found in others:
        for name, numbers in expected.items():
            assert np.isfinite(numbers).all()
            atol = 1e-10 * (size if name in ("support", "query") else max(1e-300, np.abs(numbers).max()))
            np.testing.assert_allclose(found[name], numbers, rtol=1e-10, atol=atol, err_msg=name)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@given(case=cases, seed=st.integers(0, 99))
def test_gradient_is_that_of_central_differences(settings, case, seed):
    rng = np.random.default_rng(seed)
    support, labels, query = embeddings(rng, **case)
    # No vector near zero: a cosine bends there within any step.
    support, query = (x + 2 * np.sign(x + 0.5) for x in (support, query))
    head = PrototypicalHead(**settings)
    p = {name: rng.normal(size=shape) for name, shape in head.shapes.items()}
    gy = rng.normal(size=(case["tasks"], case["queries"], case["ways"]))
    target = one_hot(labels, case["ways"], support)
    found = run_head(head, BACKENDS64["numpy"], p, support, target, query, gy)
    point = {"support": support, "query": query, **p}
    along = {name: rng.normal(size=np.shape(x)) for name, x in point.items()}
    sums = []
    for step in (1e-5, -1e-5):
        moved = {name: x + step * along[name] for name, x in point.items()}
        own = {name: moved[name] for name in p}
        arrays = moved["support"], target, moved["query"], gy
        sums.append(np.sum(gy * run_head(head, BACKENDS64["numpy"], own, *arrays)["outputs"]))
    expected = (sums[0] - sums[1]) / 2e-5
    slope = sum(np.sum(found[name] * along[name]) for name in point)
    assert slope == pytest.approx(expected, rel=1e-5, abs=1e-5 * np.abs(gy).sum())


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


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@given(case=cases, seed=st.integers(0, 99))
def test_classes_are_names_and_shots_a_set(settings, case, seed):
    rng = np.random.default_rng(seed)
    support, labels, query = embeddings(rng, **case)
    ways = case["ways"]
    before = logits(settings, support, labels, query, ways)
    names = rng.permutation(ways)
    renamed = logits(settings, support, names[labels], query, ways)
    np.testing.assert_allclose(renamed[..., names], before, rtol=1e-10, atol=1e-10)
    order = rng.permutation(support.shape[1])
    shuffled = logits(settings, support[:, order], labels[:, order], query, ways)
    np.testing.assert_allclose(shuffled, before, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_single_precision_is_near_double(settings, scale):
    rng = np.random.default_rng(0)
    support, labels, query = embeddings(rng, tasks=2, ways=5, shots=10, queries=8, features=64, scale=scale)
    double = logits(settings, support, labels, query, 5)
    single = logits(settings, support.astype(np.float32), labels, query.astype(np.float32), 5)
    assert single.dtype == np.float32
    assert np.abs(single - double).max() <= 1e-3 * np.abs(double).max()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_learner_has_one_gradient_on_every_backend(settings):
    """Through head and embedding, and of the loss itself by central differences."""
    learner = Prototypical(mltk.models.mlp([4, 8, 3], activation="tanh"), **settings)
    tasks = mltk.data.Blobs(4, 2, 3)
    found = []
    for backend in BACKENDS64.values():
        meta = learner.init(backend, 0)
        value, grads = learner.value_and_grad(meta, tasks.sample(3, 0, backend))
        assert tree.flatten(grads).keys() == tree.flatten(meta).keys()
        found.append((float(value), {k: backend.to_numpy(g) for k, g in tree.flatten(grads).items()}))
    for value, grads in found[1:]:
        assert value == pytest.approx(found[0][0], rel=1e-12)
        for name, expected in found[0][1].items():
            np.testing.assert_allclose(grads[name], expected, rtol=1e-9, atol=1e-11, err_msg=name)

    backend, rng = BACKENDS64["numpy"], np.random.default_rng(1)
    meta, episode = learner.init(backend, 0), tasks.sample(3, 0, backend)
    along = tree.map(lambda leaf: rng.normal(size=leaf.shape), meta)
    values = [
        float(learner.value_and_grad(tree.map(lambda m, d, s=step: m + s * d, meta, along), episode)[0])
        for step in (1e-5, -1e-5)
    ]
    slope = sum(np.sum(g * tree.flatten(along)[name]) for name, g in found[0][1].items())
    assert slope == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-6)


def test_value_is_the_loss_of_the_predictions(backend64):
    learner = Prototypical(mltk.models.mlp([4, 8, 3]))
    episode = mltk.data.Blobs(4, 2, 3).sample(3, 0, backend64)
    meta = learner.init(backend64, 0)
    state = learner.adapt(meta, episode.support_x, episode.support_y)
    outputs = learner.predict(state, episode.query_x)
    losses, _ = mltk.ops.loss("cross_entropy").forward({"target": episode.query_y}, outputs)
    value, _ = learner.value_and_grad(meta, episode)
    assert float(value) == pytest.approx(float(losses.mean()), rel=1e-12)


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
    with pytest.raises(SettingError, match="distance is 'manhattan'; expected one of sqeuclidean, cosine"):
        Prototypical(network, distance="manhattan")
    with pytest.raises(SettingError, match="temperature is 0"):
        Prototypical(network, temperature=0)
    with pytest.raises(SettingError, match=r'temperature is .warm.; expected a number or "learned"'):
        Prototypical(network, temperature="warm")
    with pytest.raises(SettingError, match="embedding is 3"):
        Prototypical(3)
    backend = BACKENDS64["numpy"]
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
