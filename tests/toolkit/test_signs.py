"""Signs of failure in answers, against loops over tasks, queries and classes."""

from dataclasses import replace

import numpy as np
import pytest
from routes import ROUTES

import mltk
from mltk.evaluation.entry import Entry
from mltk.toolkit.signs import signs

MODEL = mltk.models.Sequential([])


def answers(backend, *, ways=3, shots=2, queries=4, tasks=5, separation=2.0):
    source = mltk.data.Blobs(ways=ways, shots=shots, queries=queries, separation=separation)
    episode = source.sample(tasks, 0, backend)
    learner = mltk.algorithms.Prototypical(MODEL)
    outputs = backend.to_numpy(
        learner.predict(learner.adapt({}, episode.support_x, episode.support_y), episode.query_x)
    )
    return Entry("means", learner, {}), episode, outputs


def by_loops(episode, outputs):
    """The docstring's formulas, for class means."""
    arrays = (episode.support_x, episode.support_y, episode.query_x)
    found = {name: [] for name in ("entropy", "unevenness", "echo", "agreement")}
    for _, y, x, logits in zip(*map(np.asarray, arrays), outputs, strict=True):
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        first, (queries, ways) = p.argmax(axis=1), p.shape
        found["entropy"].append(-(p * np.log(p)).sum() / queries)
        parts = [np.sum(first == k) / queries for k in range(ways)]
        found["unevenness"].append(max(0, sum(max(0, part - 1 / ways) for part in parts)))
        means = []
        for k in range(ways):
            odds = [p[m, k] / np.delete(p[m], k).max() for m in range(queries)]
            surest = sorted(range(queries), key=lambda m, odds=odds: -odds[m])
            many = int(np.sum(y == k))
            means.append(np.mean([x[surest[n % queries]] for n in range(many)], axis=0))
        again = np.exp([[-np.sum((q - mean) ** 2) for mean in means] for q in x])
        again /= again.sum(axis=1, keepdims=True)
        found["echo"].append(np.mean([again[m, first[m]] for m in range(queries)]))
        found["agreement"].append(np.mean(again.argmax(axis=1) == first))
    return found


@pytest.mark.parametrize(("ways", "shots", "queries"), [(3, 2, 4), (5, 1, 1), (2, 7, 1)])
def test_signs_are_the_formulas(ways, shots, queries):
    for backend in ROUTES:
        entry, episode, outputs = answers(backend, ways=ways, shots=shots, queries=queries)
        found = signs(entry, episode, outputs)
        expected = by_loops(episode, outputs)
        assert set(found) == set(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=1e-12, err_msg=name)


def test_what_is_plain_has_no_signs_of_failure():
    found = signs(*answers(ROUTES[0], separation=1e4))
    for name, value in {"entropy": 0, "unevenness": 0, "echo": 1, "agreement": 1}.items():
        np.testing.assert_allclose(found[name], value, atol=1e-12, err_msg=name)


def test_the_part_that_must_be_wrong_is_wrong():
    """Where queries are of all classes alike, unevenness is a lower bound of the error."""
    entry, episode, outputs = answers(ROUTES[0], ways=4, queries=5, tasks=200, separation=1.0)
    errors = (outputs.argmax(axis=-1) != episode.query_y).mean(axis=1)
    found = signs(entry, episode, outputs)
    assert (found["unevenness"] <= errors + 1e-12).all()
    assert found["unevenness"].mean() > 0.1


def test_a_single_class_has_no_signs_of_failure():
    entry, episode, outputs = answers(ROUTES[0])
    one = replace(episode, support_y=0 * episode.support_y, query_y=0 * episode.query_y, ways=1)
    found = signs(entry, one, outputs[..., :1])
    assert {name: values.tolist() for name, values in found.items()} == {
        "entropy": [0.0] * 5,
        "unevenness": [0.0] * 5,
        "echo": [1.0] * 5,
        "agreement": [1.0] * 5,
    }


def test_outputs_that_are_no_ways_are_left_out():
    entry, episode, outputs = answers(ROUTES[0])
    more = np.concatenate([outputs, np.full((*outputs.shape[:2], 2), 50.0)], axis=2)
    for name, values in signs(entry, episode, more).items():
        np.testing.assert_array_equal(values, signs(entry, episode, outputs)[name], err_msg=name)
