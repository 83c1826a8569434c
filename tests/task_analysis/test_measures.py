"""All measures of an episode, what they need, and those of gradients against derivatives taken elsewhere."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from routes import BACKENDS, NUMPY, ROUTES, backend_of

import mltk
from mltk.errors import SettingError, TreeError
from mltk.task_analysis import (
    Measures,
    gradient_alignment,
    matching_similarity,
    mean_confidence,
    measures,
    task2vec,
    task2vec_distances,
)

TASKS = mltk.data.Blobs(ways=3, shots=2, queries=4, separation=3)
MODEL = mltk.models.mlp([3, 6, 4], activation="tanh")
LEARNER = mltk.RidgeRegression(MODEL)


def setting(backend, tasks=4):
    return TASKS.sample(tasks, 1, backend), LEARNER.init(backend, 2)


def test_are_the_same_on_all_backends_and_need_no_other_task():
    episode, params = setting(NUMPY)
    expected = measures(episode, (MODEL, params))
    for backend in ROUTES[1:]:
        episode, params = setting(backend)
        found = measures(episode, embedding=(MODEL, params))
        assert found.needs == expected.needs
        for name, values in found.items():
            assert values.dtype == np.float64
            np.testing.assert_allclose(values, expected[name], rtol=1e-9, atol=1e-11, err_msg=name)
    episode, params = setting(NUMPY)
    alone = measures(episode.take(slice(1, 2)), embedding=(MODEL, params))
    assert set(expected) - set(alone) == {"gradient_alignment_between"}
    for name, values in alone.items():
        np.testing.assert_allclose(values, expected[name][1:2], rtol=1e-9, atol=1e-11, err_msg=name)


def test_tell_nothing_that_is_not_known_yet():
    episode, params = setting(NUMPY)
    rng = np.random.default_rng(0)
    other_labels = replace(episode, query_y=rng.permuted(episode.query_y, axis=1))
    others = replace(other_labels, query_x=episode.query_x + rng.normal(size=episode.query_x.shape))
    found = {
        name: measures(e, (MODEL, params)) for name, e in (("", episode), ("y", other_labels), ("xy", others))
    }
    kept = {name: getattr(found[""], name)() for name in ("without_query_labels", "of_support_alone")}
    for name in found[""]:
        needs = found[""].needs[name]
        same = {other: np.array_equal(found[""][name], found[other][name]) for other in ("y", "xy")}
        if found[""][name].std() > 0:
            assert same == {"y": needs != "query labels", "xy": needs == "support"}, name
        assert (name in kept["without_query_labels"]) == (needs != "query labels")
        assert (name in kept["of_support_alone"]) == (needs == "support")


def test_assumed_hardness_is_that_of_queries_which_are_what_they_are_taken_for():
    for backend in ROUTES:
        source, params = mltk.data.Blobs(ways=3, shots=2, queries=4, separation=9), setting(backend)[1]
        episode = source.sample(40, 1, backend)
        learner = mltk.algorithms.Prototypical(MODEL)
        outputs = learner.predict(
            learner.adapt(params, episode.support_x, episode.support_y), episode.query_x
        )
        taken = backend.asarray(backend.to_numpy(outputs).argmax(axis=-1))
        wrong = backend.to_numpy(taken != episode.query_y).any(axis=1)
        found = measures(episode, (MODEL, params), gradients=False)
        told = measures(replace(episode, query_y=taken), (MODEL, params), gradients=False)
        np.testing.assert_allclose(found["assumed_hardness"], told["hardness"], rtol=1e-12)
        differ = found["assumed_hardness"] != found["hardness"]
        assert not differ[~wrong].any()
        assert differ[wrong].any()
        assert 5 < wrong.sum() < 35


@pytest.mark.parametrize("scale", [1.0, 1e-150, 1e150])
def test_matching_similarity_is_the_largest_cosine_on_average(scale):
    rng = np.random.default_rng(0)
    support, query = scale * rng.normal(size=(3, 4, 5)), rng.normal(size=(3, 6, 5))
    expected = [
        np.mean([max(q @ s / np.linalg.norm(q) / np.linalg.norm(s) for s in sup) for q in que])
        for sup, que in zip(support, query, strict=True)
    ]
    for backend in ROUTES:
        found = matching_similarity(backend.asarray(support), backend.asarray(query))
        np.testing.assert_allclose(backend.to_numpy(found), expected, rtol=1e-12)
    np.testing.assert_allclose(matching_similarity(support, 7 * support[:, ::-1]), 1, rtol=1e-12)
    np.testing.assert_array_equal(matching_similarity(support, 0 * query), 0)


def test_show_themselves():
    episode, params = setting(NUMPY)
    found = measures(
        replace(episode, support_x=0 * episode.support_x + episode.support_x[:, :1]), (MODEL, params)
    )
    lines = str(found).splitlines()
    assert lines[0] == "Measures of 4 tasks: mean, range"
    assert [line.split()[0] for line in lines[1:]] == list(found)
    assert all(
        line.split("needs the ")[1].split(",")[0] == found.needs[line.split()[0]] for line in lines[1:]
    )
    shown = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert shown["hardness"] == {"needs": "query labels", "values": found["hardness"].tolist()}


def test_of_inputs_and_of_functions_take_no_gradients():
    episode, params = setting(NUMPY)
    assert "task2vec_norm" in measures(episode, (MODEL, params))
    for embedding in (None, lambda x: MODEL.apply(params, x)):
        found = measures(episode, embedding)
        assert not {"task2vec_norm", "gradient_alignment"} & set(found)
        assert "h_score" in found


def test_the_confidence_may_be_that_of_a_learner():
    episode, params = setting(NUMPY)
    found = measures(episode, (MODEL, params), learner=(LEARNER, params))
    logits = LEARNER.predict(LEARNER.adapt(params, episode.support_x, episode.support_y), episode.query_x)
    np.testing.assert_array_equal(found["confidence"], mean_confidence(logits))
    assert (found["confidence"] != measures(episode, (MODEL, params))["confidence"]).all()
    with pytest.raises(SettingError, match="expected a pair"):
        measures(episode, learner=LEARNER)


def test_mean_confidence_is_known_for_some_logits():
    np.testing.assert_allclose(mean_confidence(np.zeros((2, 3, 4))), 0.25)
    p = np.asarray([[[0.7, 0.2, 0.1], [0.1, 0.5, 0.4]]])
    np.testing.assert_allclose(mean_confidence(np.log(p) + 1000), 0.6)


def by_torch(x, labels, means, parameters):
    """The cross-entropies of the class-mean classifier on the tanh network, by Torch alone."""
    w1, b1, w2, b2 = parameters
    features = torch.tanh(x @ w1.T + b1) @ w2.T + b2
    logits = -(torch.cdist(features, means, compute_mode="donot_use_mm_for_euclid_dist") ** 2)
    return torch.nn.functional.cross_entropy(logits, labels, reduction="none")


def of_torch(episode, params, task):
    """Tensors of one task, and the class means of its support features."""
    tensors = [torch.as_tensor(params[k][n]).requires_grad_() for k in ("0", "2") for n in ("weight", "bias")]
    x, labels = (torch.as_tensor(a[task]) for a in (episode.support_x, episode.support_y))
    w1, b1, w2, b2 = (t.detach() for t in tensors)
    features = torch.tanh(x @ w1.T + b1) @ w2.T + b2
    means = torch.stack([features[labels == k].mean(0) for k in range(3)])
    return tensors, x, labels, means


def test_task2vec_is_the_fisher_information_by_autograd():
    episode, params = setting(NUMPY)
    vectors = task2vec(episode, (MODEL, params))
    for task in range(4):
        tensors, x, _, means = of_torch(episode, params, task)
        fisher = [torch.zeros_like(t) for t in tensors]
        for example in x:
            for label in range(3):
                loss = by_torch(example[None], torch.tensor([label]), means, tensors)
                grads = torch.autograd.grad(loss.sum(), tensors)
                fisher = [
                    f + torch.exp(-loss.detach()) * g**2 / len(x) for f, g in zip(fisher, grads, strict=True)
                ]
        expected = torch.cat([f.reshape(len(f), -1).mean(1) for f in fisher])
        np.testing.assert_allclose(vectors[task], expected.numpy(), rtol=1e-9)


def test_gradients_are_those_of_autograd():
    episode, params = setting(NUMPY)
    found = measures(episode, (MODEL, params))
    rows = {"support": [], "query": []}
    for task in range(4):
        tensors, x, labels, means = of_torch(episode, params, task)
        query = [torch.as_tensor(a[task]) for a in (episode.query_x, episode.query_y)]
        for name, (inputs, wanted) in (("support", (x, labels)), ("query", query)):
            loss = by_torch(inputs, wanted, means, tensors)
            rows[name].append(torch.cat([g.ravel() for g in torch.autograd.grad(loss.mean(), tensors)]))
    unit = {n: torch.nn.functional.normalize(torch.stack(r), dim=1).numpy() for n, r in rows.items()}
    np.testing.assert_allclose(
        found["gradient_alignment"], (unit["support"] * unit["query"]).sum(1), rtol=1e-9
    )
    cosines = unit["support"] @ unit["support"].T
    expected = (cosines.sum(1) - 1) / 3
    np.testing.assert_allclose(found["gradient_alignment_between"], expected, rtol=1e-9, atol=1e-12)


def test_alignment_tells_what_a_step_on_one_task_does_to_another():
    rng = np.random.default_rng(0)
    gradients = {"a": {"w": rng.normal(size=(3, 2, 2))}, "b": rng.normal(size=(3, 4))}
    rows = np.concatenate([gradients["a"]["w"].reshape(3, -1), gradients["b"]], axis=1)
    lengths = np.linalg.norm(rows, axis=1)
    found = gradient_alignment(gradients, mltk.tree.map(lambda g: -2 * g, gradients))
    np.testing.assert_allclose(found.within, -1)
    np.testing.assert_allclose(found.between, rows @ rows.T / np.outer(lengths, lengths))
    zero = gradient_alignment(mltk.tree.map(lambda g: 0 * g, gradients), gradients)
    assert not zero.within.any()
    assert not zero.between.any()


@given(st.integers(0, 99), st.sampled_from(list(BACKENDS)))
def test_distances_of_task_vectors(seed, name):
    backend = backend_of(name)
    rng = np.random.default_rng(seed)
    f = rng.exponential(size=(4, 7)) * (rng.random((4, 7)) < 0.7)
    f[0, 0] = f[1, 0] = 1.0
    f[3] = 3 * f[0]  # then F_a / (F_a + F_b) is constant where it is not zero
    found = backend.to_numpy(task2vec_distances(backend.asarray(f)))
    np.testing.assert_allclose(found, found.T, atol=1e-15)
    a, b = f[0], f[1]
    some = a + b > 0
    u, v = a[some] / (a + b)[some], b[some] / (a + b)[some]
    np.testing.assert_allclose(found[0, 1], 1 - u @ v / np.linalg.norm(u) / np.linalg.norm(v), atol=1e-12)
    np.testing.assert_allclose(found[0, [0, 3]], 0, atol=1e-12)
    disjoint = backend.asarray(np.asarray([[1.0, 0], [0, 1], [0, 0]]))
    np.testing.assert_allclose(backend.to_numpy(task2vec_distances(disjoint))[[0, 0], [1, 2]], 1)


def test_an_embedding_of_images_with_the_statistics_of_the_support_set(backend32):
    rng, y = np.random.default_rng(0), np.asarray([[0, 1, 1], [1, 0, 0]])
    arrays = [part for _ in "sq" for part in (rng.normal(size=(2, 3, 1, 16, 16)), y)]
    episode = mltk.Episode(*map(backend32.asarray, arrays), ways=2)
    for statistics, gradients in (("support", True), ("batch", False)):
        model = mltk.models.conv4(in_channels=1, image_size=16, width=2, statistics=statistics)
        params = model.init(backend32, 0)
        found = measures(episode, (model, params))
        assert ("task2vec_norm" in found) == gradients
        assert np.isfinite(found["gradient_alignment"]).all()
    with pytest.raises(SettingError, match='statistics="batch"'):
        task2vec(episode, (model, params))


def test_bad_input_is_refused():
    episode, params = setting(NUMPY)
    with pytest.raises(SettingError, match="episode is regression"):
        measures(mltk.data.Sinusoid(shots=2, queries=2).sample(2, 0, NUMPY))
    with pytest.raises(TreeError, match=r"features: '2\.bias' is missing"):
        measures(episode, (MODEL, mltk.tree.without(params, ["2.bias"])))
    with pytest.raises(SettingError, match="features is 'conv4'"):
        measures(episode, "conv4")


def test_measures_of_several_episodes_are_joined():
    episode, params = setting(NUMPY, tasks=5)
    parts = [
        measures(episode.take(tasks), (MODEL, params)) for tasks in (slice(0, 2), slice(2, 3), slice(3, 5))
    ]
    found, whole = Measures.joined(parts), measures(episode, (MODEL, params))
    assert set(whole) - set(found) == {"gradient_alignment_between"}  # a single task has no others
    for name, values in found.items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-9, atol=1e-12)
    assert dict(found.needs).items() <= dict(whole.needs).items()
