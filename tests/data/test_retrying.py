"""Sources that raise: a retry that succeeds changes nothing, and whoever gives up leaves nothing out."""

import pickle

import numpy as np
import pytest
from faults import BrokenError, Raising, Spoilt
from hypothesis import given
from hypothesis import strategies as st
from routes import NUMPY

import mltk
from mltk.data import Retrying
from mltk.data.source import chosen_from
from mltk.errors import DivergedError, SettingError
from mltk.task_analysis import curricula

TASKS = mltk.data.Sinusoid(shots=3, queries=2)
GLYPHS = mltk.data.Glyphs(2, 6, 4)
BIT_GENERATORS = (np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64)


def same(one, other):
    for name in ("support_x", "support_y", "query_x", "query_y"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)


@given(
    kind=st.sampled_from(BIT_GENERATORS),
    seed=st.integers(0, 99),
    at=st.sets(st.integers(0, 9), max_size=4),
    as_seed=st.booleans(),
)
def test_draws_after_failures_are_those_without(kind, seed, at, as_seed):
    rng, other = (np.random.Generator(kind(seed)) for _ in range(2))
    source = Retrying(Raising(TASKS, tuple(at)), retries=4, wait=0.0)
    for _ in range(4):
        same(
            source.sample(2, seed if as_seed else rng, NUMPY),
            TASKS.sample(2, seed if as_seed else other, NUMPY),
        )
    assert rng.random() == other.random()
    assert source.tasks.draws == 4 + len([draw for draw in at if draw < source.tasks.draws])


def test_the_last_error_is_raised_and_the_generator_stands_where_it_was():
    source, rng = Retrying(Raising(TASKS, (0, 1, 2)), retries=2, wait=0.0), np.random.default_rng(3)
    with pytest.raises(BrokenError, match="draw 2"):
        source.sample(2, rng, NUMPY)
    assert rng.random() == np.random.default_rng(3).random()


@pytest.mark.parametrize("error", [SettingError, DivergedError, KeyboardInterrupt])
def test_what_no_attempt_mends_is_raised_at_once(error):
    source = Retrying(Raising(TASKS, (0,), error), wait=0.0)
    with pytest.raises(error):
        source.sample(2, 0, NUMPY)
    assert source.tasks.draws == 1


def test_waits_double(monkeypatch):
    naps = []
    monkeypatch.setattr("mltk.data.retrying.time.sleep", naps.append)
    Retrying(Raising(TASKS, (0, 1, 2)), wait=0.5).sample(2, 0, NUMPY)
    assert naps == [0.5, 1.0, 2.0]


def test_a_source_that_is_retried_is_what_it_was():
    images = Retrying(GLYPHS.tasks(3, 1, 1))
    assert images.ways == 3
    assert images.class_names == GLYPHS.tasks(3, 1, 1).class_names
    assert chosen_from(images) == images.tasks
    assert chosen_from(Retrying(curricula.HardMining(TASKS))) is TASKS
    assert not hasattr(Retrying(TASKS), "propose")
    assert not hasattr(Retrying(TASKS), "no_such_thing")
    copy = pickle.loads(pickle.dumps(images))
    same(copy.sample(2, 0, NUMPY), images.sample(2, 0, NUMPY))


def test_tasks_of_given_classes_are_retried_too():
    glyphs, failures = GLYPHS.tasks(2, 1, 1), [BrokenError("once")]

    class Flaky:
        sample = glyphs.sample

        def of_classes(self, classes, rng, backend):
            episode = glyphs.of_classes(classes, rng, backend)
            if failures:
                raise failures.pop()
            return episode

    classes, (rng, other) = np.array([[2, 0]]), (np.random.default_rng(0), np.random.default_rng(0))
    found = Retrying(Flaky(), wait=0.0).of_classes(classes, rng, NUMPY)
    same(found, glyphs.of_classes(classes, other, NUMPY))
    assert rng.random() == other.random()


@pytest.mark.parametrize("prefetch", [False, True])
def test_a_training_and_an_evaluation_after_failures_are_those_without(prefetch):
    learner = mltk.algorithms.Prototypical(mltk.models.mlp([3, 4]))
    tasks = mltk.data.Blobs(ways=3, shots=1, queries=2)
    flaky = Retrying(Raising(tasks, (0, 3, 4, 9), prefetch=prefetch), wait=0.0)
    found, plain = (mltk.train(learner, each, backend=NUMPY, steps=8) for each in (flaky, tasks))
    assert [line["loss"] for line in found.history] == [line["loss"] for line in plain.history]
    assert flaky.tasks.draws >= 12
    flaky.tasks.draws = 3
    results = [
        mltk.evaluate(learner, found.meta_params, each, episodes=60, seed=5) for each in (flaky, tasks)
    ]
    np.testing.assert_array_equal(*(result.values for result in results))


def test_an_evaluation_without_some_of_its_tasks_is_none():
    learner = mltk.algorithms.Prototypical(mltk.models.mlp([3, 4]))
    tasks = Retrying(Spoilt(mltk.data.Blobs(ways=3, shots=1, queries=2)), wait=0.0)
    with pytest.raises(BrokenError):
        mltk.evaluate(learner, learner.init(NUMPY, 0), tasks, episodes=400)


def test_a_run_with_it_is_loaded_again(tmp_path):
    learner = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")
    tasks = Retrying(TASKS, retries=1, wait=0.0)
    mltk.train(learner, tasks, backend=NUMPY, steps=2, out=tmp_path)
    assert mltk.load_run(tmp_path).tasks == tasks
