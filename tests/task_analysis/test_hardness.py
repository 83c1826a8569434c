"""Hardness of a task: its definition, its gradient by hand, and what does not change it."""

import math
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from routes import NUMPY, ROUTES

import mltk
from mltk.errors import ArrayError, LabelError, SettingError, ShapeError
from mltk.task_analysis import hardness_value_and_grad
from mltk.task_analysis.features import embedded

OPTIONS = st.fixed_dictionaries(
    {"temperature": st.sampled_from([1.0, 0.1, 3.0]), "relu_queries": st.booleans()}
)


@st.composite
def problems(draw, flaws=("", "zeros", "duplicates", "negative")):
    """Features and labels of an episode, with their flaws: `support, support_y, query, query_y, ways`."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ways, tasks, d = draw(st.integers(2, 6)), draw(st.integers(1, 3)), draw(st.integers(1, 7))
    extra, queries = draw(st.integers(0, 4)), draw(st.integers(1, 6))
    support_y = np.stack(
        [rng.permutation(np.r_[np.arange(ways), rng.integers(0, ways, extra)]) for _ in range(tasks)]
    )
    query_y = rng.integers(0, ways, (tasks, queries))
    scale = draw(st.sampled_from([1.0, 1e-3, 1e4]))
    support, query = (scale * rng.normal(size=(*y.shape, d)) for y in (support_y, query_y))
    flaw = draw(st.sampled_from(flaws))
    if flaw == "zeros":
        support[0][support_y[0] == 0], query[:, 0] = 0, 0
    elif flaw == "duplicates":
        support[:] = support[:, :1]
    elif flaw == "negative":
        query[:, 0] = -np.abs(query[:, 0])
    return support, support_y, query, query_y, ways


def by_definition(support, support_y, query, query_y, ways, *, temperature, relu_queries):
    """Equations 6, 7 and 9 as they stand, query by query; of complex numbers too, for the complex step."""

    def unit(v):
        length = np.sqrt((v * v).sum())
        return v / length if length != 0 else v

    def rectified(v):
        return np.where(v.real > 0, v, 0)

    values = []
    for s, labels, queries, wanted in zip(support, support_y, query, query_y, strict=True):
        weights = [unit(np.mean([rectified(v) for v in s[labels == k]], axis=0)) for k in range(ways)]
        total = 0
        for q, y in zip(queries, wanted, strict=True):
            q = unit(rectified(q) if relu_queries else q)
            e = np.exp(np.asarray([(w * q).sum() / temperature for w in weights]))
            total = total + np.log(np.delete(e, y).sum() / e[y])  # (1 - p) / p, of which 1 - p cancels
        values.append(total / len(queries))
    return np.asarray(values)


def at(backend, arrays):
    *arrays, ways = arrays
    return [backend.asarray(a) for a in arrays], ways


@given(problems(), OPTIONS)
def test_is_the_definition(problem, options):
    expected = by_definition(*problem, **options)
    for backend in ROUTES:
        arrays, ways = at(backend, problem)
        value, *_ = hardness_value_and_grad(*arrays, ways=ways, **options)
        np.testing.assert_allclose(backend.to_numpy(value), expected, rtol=1e-12, atol=1e-12)


def lengths(problem, *, relu_queries, **_):
    """What gradients are inversely proportional to: the lengths of class means and of queries."""
    support, support_y, query, _, ways = problem
    members = (support_y[..., None] == np.arange(ways)).astype(float)
    means = members.mT @ np.maximum(support, 0) / members.sum(1)[..., None]
    queries = np.maximum(query, 0) if relu_queries else query
    return members @ np.linalg.norm(means, axis=-1)[..., None], np.linalg.norm(queries, axis=-1)[..., None]


@given(problems(), OPTIONS)
def test_gradient_by_hand_is_that_of_autograd(problem, options):
    *arrays, ways = problem
    value, *by_hand = hardness_value_and_grad(*arrays, ways=ways, **options)
    tensors = [torch.as_tensor(a) for a in arrays]
    for place in (0, 2):
        tensors[place].requires_grad_()
    found, *by_the_rules = hardness_value_and_grad(*tensors, ways=ways, **options)
    np.testing.assert_allclose(found.detach().numpy(), value, rtol=1e-12, atol=1e-12)
    found.sum().backward()
    for hand, rules, tensor, length in zip(
        by_hand, by_the_rules, (tensors[0], tensors[2]), lengths(problem, **options), strict=True
    ):
        for other in (rules.detach(), tensor.grad):
            np.testing.assert_allclose(hand * length, other.numpy() * length, rtol=1e-11, atol=1e-12)


@given(problems(flaws=("",)), OPTIONS, st.integers(0, 99))
def test_gradient_is_that_of_the_complex_step(problem, options, seed):
    support, support_y, query, query_y, ways = problem
    _, g_support, g_query = hardness_value_and_grad(support, support_y, query, query_y, ways=ways, **options)
    rng = np.random.default_rng(seed)
    ds, dq = (
        length * rng.normal(size=x.shape)
        for x, length in zip((support, query), lengths(problem, **options), strict=True)
    )
    moved = by_definition(support + 1e-30j * ds, support_y, query + 1e-30j * dq, query_y, ways, **options)
    slope = (g_support * ds).sum((1, 2)) + (g_query * dq).sum((1, 2))
    np.testing.assert_allclose(slope, moved.imag / 1e-30, rtol=1e-10, atol=1e-11)


def episode_of(problem, backend=NUMPY):
    arrays, ways = at(backend, problem)
    return mltk.Episode(*arrays, ways=ways)


@given(problems(), OPTIONS)
def test_lies_around_the_hardness_of_features_that_tell_nothing(problem, options):
    episode, ways = episode_of(problem), problem[-1]
    excess = mltk.hardness_metric(episode, ways, relative=True, **options)
    bound = (1 if options["relu_queries"] else 2) / options["temperature"]
    assert (np.abs(excess) <= bound * (1 + 1e-15)).all()
    absolute = mltk.hardness_metric(episode, ways, **options)
    np.testing.assert_array_equal(absolute, excess + math.log(ways - 1))
    for nothing in (lambda x: 0 * x, lambda x: 0 * x + 3.7, lambda x: -(x**2)):
        uninformative = mltk.hardness_metric(episode, ways, features=nothing, relative=True)
        np.testing.assert_allclose(uninformative, 0, atol=1e-15)
    zeros = mltk.hardness_metric(episode, ways, features=lambda x: 0 * x, **options)
    np.testing.assert_array_equal(zeros, np.full(len(zeros), math.log(ways - 1)))


@given(problems(), OPTIONS, st.randoms())
def test_does_not_depend_on_names_of_classes_nor_on_the_scale_of_features(problem, options, random):
    support, support_y, query, query_y, ways = problem
    names = list(range(ways))
    random.shuffle(names)
    names = np.asarray(names)
    expected = mltk.hardness_metric(episode_of(problem), ways, **options)
    renamed = mltk.hardness_metric(
        episode_of((support, names[support_y], query, names[query_y], ways)), ways, **options
    )
    np.testing.assert_allclose(renamed, expected, rtol=1e-13, atol=1e-13)
    for scale in (1e-200, 0.1, 1e200):
        scaled = mltk.hardness_metric(episode_of(problem), ways, features=lambda x, c=scale: c * x, **options)
        np.testing.assert_allclose(scaled, expected, rtol=1e-12, atol=1e-12)


def test_is_finite_where_the_probability_of_an_error_underflows():
    x, y = np.eye(3)[None], np.arange(3)[None]
    episode = mltk.Episode(x, y, x, y, ways=3)
    assert 1 - 1 / (1 + 2 * math.exp(-1000)) == 0
    np.testing.assert_allclose(
        mltk.hardness_metric(episode, 3, temperature=1e-3), [math.log(2) - 1000], rtol=1e-15
    )


def test_embeds_by_a_model_whose_parameters_stand_among_those_of_a_learner(backend64):
    tasks = mltk.data.Blobs(ways=3, shots=2, queries=4)
    episode = tasks.sample(4, 0, backend64)
    embedding = mltk.models.mlp([3, 8, 4])
    learner = mltk.RidgeRegression(embedding)
    params = learner.init(backend64, 0)
    assert "head" in params
    by_pair = mltk.hardness_metric(episode, 3, features=(embedding, params))
    by_function = mltk.hardness_metric(episode, 3, features=lambda x: embedding.apply(params, x))
    assert (by_pair == by_function).all()
    expected = mltk.hardness_metric(
        tasks.sample(4, 0, NUMPY), 3, features=(embedding, learner.init(NUMPY, 0))
    )
    np.testing.assert_allclose(backend64.to_numpy(by_pair), expected, rtol=1e-12)


def test_features_take_the_statistics_that_predictions_take():
    rng, y = np.random.default_rng(0), np.asarray([[0, 1, 1], [1, 0, 0]])
    episode = mltk.Episode(*[part for _ in "sq" for part in (rng.normal(size=(2, 3, 1, 16, 16)), y)], ways=2)
    model = mltk.models.conv4(in_channels=1, image_size=16, width=2, statistics="support")
    learner = mltk.RidgeRegression(model)
    params = learner.init(NUMPY, 0)
    state = learner.adapt(params, episode.support_x, episode.support_y)
    _, query = embedded(episode, (model, params))
    np.testing.assert_array_equal(query, model.apply(state["embedding"], episode.query_x))


def hardness_of_torchmeta(support, support_y, query, query_y, ways):
    """What `torchmeta.utils.metrics.hardness_metric` gives for features at hand; ``None`` where it is not.

    The network that it fetches on every call gives them: those of the support set, then of the queries. Its
    file is loaded by itself, since the rest of version 1.8 wants an old torchvision.
    """
    found = find_spec("torchmeta")
    if found is None or not found.submodule_search_locations:
        return None
    folder = Path(found.submodule_search_locations[0], "utils")
    outputs = iter([torch.as_tensor(support), torch.as_tensor(query)])

    class Network(torch.nn.Module):
        def forward(self, images):
            return next(outputs)

    sources = [(folder / name).read_text() for name in ("prototype.py", "metrics.py")]
    space = {}
    for source in sources:
        exec(source.replace("from torchmeta.utils.prototype import get_prototypes", ""), space)
    images = [torch.zeros((*labels.shape, 3, 1, 1)) for labels in (support_y, query_y)]
    sets = [(x, torch.as_tensor(y)) for x, y in zip(images, (support_y, query_y), strict=True)]
    with mock.patch.object(torch.hub, "load", return_value=Network()):
        return space["hardness_metric"](dict(zip(("train", "test"), sets, strict=True)), ways).numpy()


def test_is_torchmetas_for_the_same_features():
    rng = np.random.default_rng(0)
    for ways, shots, d in ((5, 1, 20), (3, 4, 6), (20, 2, 50)):
        support_y = np.tile(np.repeat(np.arange(ways), shots), (3, 1))
        query_y = rng.integers(0, ways, (3, 9))
        support, query = rng.normal(size=(3, ways * shots, d)), rng.normal(size=(3, 9, d))
        peers = hardness_of_torchmeta(support, support_y, query, query_y, ways)
        if peers is None:
            pytest.skip("torchmeta is not installed (pip install --no-deps torchmeta)")
        episode = mltk.Episode(support, support_y, query, query_y, ways=ways)
        ours = mltk.hardness_metric(episode, ways, relu_queries=False)
        np.testing.assert_allclose(ours, peers, rtol=1e-10)
        assert np.abs(mltk.hardness_metric(episode, ways) - peers).max() > 1e-3


def test_refuses_what_has_no_hardness():
    episode = mltk.data.Blobs(ways=3, shots=1, queries=2).sample(2, 0, NUMPY)
    arrays = (episode.support_x, episode.support_y, episode.query_x, episode.query_y)
    with pytest.raises(SettingError, match="num_classes is 4; expected the ways of the episode, 3"):
        mltk.hardness_metric(episode, 4)
    with pytest.raises(SettingError, match="num_classes is 1; expected"):
        mltk.hardness_metric(episode, 1)
    with pytest.raises(SettingError, match="episode is regression"):
        mltk.hardness_metric(mltk.data.Sinusoid(shots=2, queries=2).sample(2, 0, NUMPY), 2)
    with pytest.raises(ArrayError, match=r"expected an mltk\.Episode"):
        mltk.hardness_metric({"train": arrays}, 3)
    for temperature in (0, -1.0, math.nan, "learned"):
        with pytest.raises(SettingError, match="temperature"):
            mltk.hardness_metric(episode, 3, temperature=temperature)
    with pytest.raises(ShapeError, match=r"features gives shape \(2, 3\); expected vectors \(2, 3, 'd'\)"):
        mltk.hardness_metric(episode, 3, features=lambda x: x[..., 0])
    with pytest.raises(SettingError, match="features is 'resnet'"):
        mltk.hardness_metric(episode, 3, features="resnet")
    with pytest.raises(SettingError, match="expected a pair"):
        mltk.hardness_metric(episode, 3, features=(mltk.models.mlp([3, 2]),))
    with pytest.raises(ArrayError, match="features holds a list"):
        mltk.hardness_metric(episode, 3, features=lambda x: [1])
    with pytest.raises(LabelError, match="query_y holds the label 7"):
        hardness_value_and_grad(*arrays[:3], np.full_like(arrays[3], 7), ways=3)
    with pytest.raises(ShapeError, match="query has shape"):
        hardness_value_and_grad(*arrays[:2], arrays[2][..., :1], arrays[3], ways=3)
