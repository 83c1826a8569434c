"""Curricula by class: which classes are drawn, with which chances, and what is learned from errors."""

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from routes import AUTOGRAD, NUMPY
from scipy import special, stats

import mltk
from mltk.errors import SettingError
from mltk.task_analysis.curricula import (
    ClassConditional,
    ClassPairs,
)

SINUSOIDS = mltk.data.Sinusoid(shots=4, queries=3)


GLYPHS = mltk.data.Glyphs(2, 5, 4, image_size=16).tasks(3, 2, 2)


EMBEDDING = mltk.models.Sequential([mltk.ops.Flatten(), mltk.ops.Linear(256, 4)])


PROTOTYPICAL = mltk.algorithms.Prototypical(EMBEDDING)


BY_CLASS = [ClassConditional(GLYPHS), ClassPairs(GLYPHS)]


by_class = pytest.mark.parametrize("tasks", BY_CLASS, ids=lambda tasks: type(tasks).__name__)


def chance(potentials, drawn):
    """The probability of classes in this order, by the definition."""
    pairs, left, found, logs = potentials.ndim == 2, set(range(len(potentials))), 1.0, potentials
    if pairs:
        logs = np.log([sum(np.exp(potentials[i, j]) for j in left - {i}) for i in left])
    for place, taken in enumerate(drawn):
        weights = {c: np.exp(logs[c]) for c in left}
        found *= weights[taken] / sum(weights.values())
        left -= {taken}
        if pairs:
            logs = potentials[taken] + (logs if place else 0)
    return found


@by_class
def test_classes_are_drawn_with_the_chances_of_the_definition(tasks):
    rng = np.random.default_rng(0)
    potentials = rng.normal(size=(4,) * tasks.start()["potentials"].ndim)
    potentials = potentials + potentials.T if potentials.ndim == 2 else potentials
    orders = list(permutations(range(4), 3))
    wanted = np.array([chance(potentials, order) for order in orders])
    assert abs(wanted.sum() - 1) < 1e-12
    drawn = tasks.draw(potentials, np.ones((20_000, 4), bool), 3, rng)
    counts = [(drawn == order).all(axis=1).sum() for order in orders]
    assert stats.chisquare(counts, 20_000 * wanted).pvalue > 1e-4
    alike = np.full(len(orders), 20_000 / len(orders))
    assert stats.chisquare(counts, alike).pvalue < 1e-4


@by_class
@pytest.mark.parametrize("scale", [1.0, 1e5])
def test_only_what_is_allowed_is_drawn_however_unlikely(tasks, scale):
    rng = np.random.default_rng(0)
    potentials = scale * rng.normal(size=(9,) * tasks.start()["potentials"].ndim)
    allowed = np.arange(9) // 3 == rng.integers(3, size=500)[:, None]
    drawn = tasks.draw(potentials, allowed, 3, rng)
    np.testing.assert_array_equal(np.sort(drawn, axis=1), np.nonzero(allowed)[1].reshape(-1, 3))


@by_class
@pytest.mark.parametrize("backend", [NUMPY, AUTOGRAD], ids=["numpy", "autograd"])
def test_potentials_follow_the_errors(tasks, backend):
    rng, meta = np.random.default_rng(1), PROTOTYPICAL.init(backend, 0)
    tasks = replace(tasks, strength=0.7, memory=0.4)
    before = rng.normal(size=tasks.start()["potentials"].shape)
    before = before + before.T if before.ndim == 2 else before
    settings = {"learner": PROTOTYPICAL, "meta_params": meta, "state": {"potentials": before}}
    episode, state, figures = tasks.propose(3, rng, backend, **settings)
    outputs = PROTOTYPICAL.predict(
        PROTOTYPICAL.adapt(meta, episode.support_x, episode.support_y), episode.query_x
    )
    p, y = special.softmax(backend.to_numpy(outputs), axis=-1), backend.to_numpy(episode.query_y)
    given, errors = {}, []
    for t, q in np.ndindex(y.shape):
        true = int(episode.classes[t, y[t, q]])
        errors.append(1 - p[t, q, y[t, q]])
        if before.ndim == 1:
            given.setdefault((true,), []).append(errors[-1])
        for label, other in enumerate(episode.classes[t].tolist()):
            if before.ndim == 2 and other != true:
                given.setdefault((true, other), []).append(p[t, q, label])
                given.setdefault((other, true), []).append(p[t, q, label])
    wanted = before.copy()
    for place, values in given.items():
        wanted[place] = 0.4 * before[place] + 0.7 * np.mean(values)
    assert 3 <= len(given) < before.size  # some have no part in it
    np.testing.assert_allclose(state["potentials"], wanted, rtol=1e-12)
    np.testing.assert_allclose(figures["error"], np.mean(errors), rtol=1e-12)


@by_class
def test_classes_need_a_source_that_draws_them(tasks):
    with pytest.raises(SettingError, match=r"tasks is .*of_classes"):
        replace(tasks, tasks=SINUSOIDS)


def test_pairs_of_a_group_are_drawn_alike_whatever_those_of_others_are():
    rng, allowed = np.random.default_rng(0), np.ones((20_000, 6), bool)
    allowed[::2, 4:], allowed[1::2, :4] = False, False
    potentials = np.zeros((6, 6))
    potentials[0, 1] = potentials[1, 0] = 2.0
    potentials[4, 5] = potentials[5, 4] = 1e4
    drawn = BY_CLASS[1].draw(potentials, allowed, 2, rng)
    pairs = potentials[:4, :4]
    orders = list(permutations(range(4), 2))
    wanted = 10_000 * np.array([chance(pairs, order) for order in orders])
    counts = [(drawn[::2] == order).all(axis=1).sum() for order in orders]
    assert stats.chisquare(counts, wanted).pvalue > 1e-4
    assert (drawn[1::2] >= 4).all()
