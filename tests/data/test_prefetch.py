"""Prefetching: the episodes that plain sampling gives, whatever happens to the thread."""

import gc
import threading
import time
import traceback
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mltk
from mltk.data.prefetch import Prefetch
from mltk.errors import SettingError
from mltk.training.run_folder import RunFolder

NUMPY = mltk.backend("numpy")
TASKS = mltk.data.Sinusoid(shots=3, queries=2)
GLYPHS = mltk.data.Glyphs(2, 6, 4)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == "mltk-prefetch"]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not threads()


def same(one, other):
    for name in ("support_x", "support_y", "query_x", "query_y", "classes", "groups"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)


@dataclass(frozen=True)
class Failing:
    """Sinusoids that fail after some episodes."""

    good: list

    def sample(self, n_tasks, rng, backend):
        episode = TASKS.sample(n_tasks, rng, backend)
        if not self.good:
            raise ZeroDivisionError("no more")
        self.good.pop()
        return episode


@dataclass(frozen=True)
class Ahead:
    """Sinusoids that training samples in a thread, and that note where."""

    prefetch: ClassVar[bool] = True
    sampled_in: ClassVar[list] = []

    def sample(self, n_tasks, rng, backend):
        self.sampled_in.append(threading.current_thread().name)
        return TASKS.sample(n_tasks, rng, backend)


@settings(max_examples=30)
@given(n_tasks=st.integers(1, 4), depth=st.integers(1, 5), count=st.integers(0, 12), used=st.integers(0, 12))
def test_episodes_and_generator_are_as_without(n_tasks, depth, count, used):
    rng, plain = np.random.default_rng(1), np.random.default_rng(1)
    with Prefetch(TASKS, n_tasks, rng, NUMPY, depth=depth, count=count) as episodes:
        for episode, _ in zip(episodes, range(used), strict=False):
            same(episode, TASKS.sample(n_tasks, plain, NUMPY))
            assert rng.bit_generator.state == plain.bit_generator.state
            assert len(threads()) <= 1
    assert not threads()


def test_there_are_as_many_as_asked_for():
    rng = np.random.default_rng(0)
    with Prefetch(TASKS, 1, rng, NUMPY, count=5) as episodes:
        assert len(list(episodes)) == 5
        assert not threads()
        assert next(episodes, None) is None


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_image_tasks_are_as_without(backend):
    backend = mltk.backend(backend)
    tasks = GLYPHS.tasks(5, 1, 2, jitter=mltk.data.Jitter())
    plain = np.random.default_rng(3)
    with Prefetch(tasks, 2, 3, backend, count=6) as episodes:
        for episode in episodes:
            same(episode, tasks.sample(2, plain, backend))


def test_it_samples_ahead_but_not_further_than_told():
    Ahead.sampled_in.clear()
    with Prefetch(Ahead(), 1, 0, NUMPY, depth=3) as episodes:
        next(episodes)
        # Three wait in the queue, one more in the thread's hand.
        deadline = time.monotonic() + 20
        while len(Ahead.sampled_in) < 5 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert Ahead.sampled_in == ["mltk-prefetch"] * 5


@pytest.mark.parametrize("good", [0, 1, 4])
def test_an_error_comes_where_its_episode_would_with_its_traceback(good):
    rng, plain = np.random.default_rng(0), np.random.default_rng(0)
    with Prefetch(Failing([None] * good), 2, rng, NUMPY, depth=2) as episodes:
        for _ in range(good):
            same(next(episodes), TASKS.sample(2, plain, NUMPY))
        with pytest.raises(ZeroDivisionError, match="no more") as error:
            next(episodes)
        assert 'raise ZeroDivisionError("no more")' in "".join(traceback.format_tb(error.value.__traceback__))
        TASKS.sample(2, plain, NUMPY)
        assert rng.bit_generator.state == plain.bit_generator.state
        assert not threads()
        assert next(episodes, None) is None


def test_a_source_that_failed_is_not_asked_again():
    with Prefetch(Failing([None]), 1, 0, NUMPY, depth=9) as episodes:
        deadline = time.monotonic() + 20
        while threads() and time.monotonic() < deadline:
            time.sleep(0.001)
        assert not threads()
        assert next(episodes).support_x.shape == (1, 3, 1)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_an_error_in_the_consumer_ends_the_thread(error):
    episodes = Prefetch(TASKS, 1, 0, NUMPY)

    def consume():
        with episodes:
            next(episodes)
            raise error

    with pytest.raises(error):
        consume()
    assert not threads()
    assert next(episodes, None) is None


def test_an_iterator_that_nobody_holds_ends_its_thread():
    episodes = Prefetch(TASKS, 1, 0, NUMPY)
    next(episodes)
    assert threads()
    del episodes
    gc.collect()
    assert not threads()


def test_closing_twice_is_closing_once():
    episodes = Prefetch(TASKS, 1, 0, NUMPY)
    episodes.close()
    episodes.close()
    assert next(episodes, None) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_tasks": 0}, "n_tasks is 0"),
        ({"rng": "zero"}, "rng is 'zero'"),
        ({"depth": 0}, "depth is 0"),
        ({"count": -1}, "count is -1"),
    ],
)
def test_settings_are_checked_before_a_thread_starts(arguments, message):
    with pytest.raises(SettingError, match=message):
        Prefetch(**{"tasks": TASKS, "n_tasks": 1, "rng": 0, "backend": NUMPY} | arguments)


LEARNER = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse", inner_steps=1)


def test_training_samples_ahead_where_the_source_says_so():
    Ahead.sampled_in.clear()
    ahead = mltk.train(LEARNER, Ahead(), backend=NUMPY, steps=12)
    assert Ahead.sampled_in == ["mltk-prefetch"] * 12
    plain = mltk.train(LEARNER, TASKS, backend=NUMPY, steps=12)
    assert [line["loss"] for line in ahead.history] == [line["loss"] for line in plain.history]


def test_training_that_fails_ends_the_thread():
    with pytest.raises(ZeroDivisionError):
        mltk.train(LEARNER, FailingAhead([None] * 3), backend=NUMPY, steps=12)
    assert not threads()


class FailingAhead(Failing):
    """The same, sampled ahead."""

    prefetch = True


def test_a_resumed_run_on_images_ends_where_an_uninterrupted_one_does(tmp_path):
    tasks = GLYPHS.tasks(3, 1, 2, jitter=mltk.data.Jitter())
    assert tasks.prefetch
    model = mltk.models.conv4(in_channels=1, image_size=28, width=4, out_features=3)
    options = {"backend": NUMPY, "log_every": 2, "checkpoint_every": 3, "seed": 2}
    learner = mltk.algorithms.MAML(model, "cross_entropy", inner_steps=1)
    straight = mltk.train(learner, tasks, steps=8, out=tmp_path / "straight", **options)

    for limit in (4, 6):  # both after a checkpoint that is older

        def stop(step, steps, loss, limit=limit):
            if step >= limit:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            mltk.train(
                learner, tasks, steps=8, out=tmp_path / "resumed", resume=True, progress=stop, **options
            )
        assert not threads()
    resumed = mltk.train(learner, tasks, steps=8, out=tmp_path / "resumed", resume=True, **options)
    assert [line["loss"] for line in resumed.history] == [line["loss"] for line in straight.history]
    found, expected = (RunFolder(tmp_path / name).read_checkpoint() for name in ("resumed", "straight"))
    assert found.rng == expected.rng
    for name, leaf in expected.params.items():
        np.testing.assert_array_equal(found.params[name], leaf, strict=True)


def test_without_threads_the_same_episodes_come_when_they_are_asked_for(monkeypatch):
    def refused(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
    ours, theirs = np.random.default_rng(3), np.random.default_rng(3)
    with Prefetch(TASKS, 4, ours, NUMPY, count=3) as episodes:
        for episode in episodes:
            same(episode, TASKS.sample(4, theirs, NUMPY))
            assert ours.bit_generator.state == theirs.bit_generator.state
    with Prefetch(Failing([1]), 4, 3, NUMPY) as episodes:
        next(episodes)
        with pytest.raises(ZeroDivisionError):
            next(episodes)
        with pytest.raises(StopIteration):
            next(episodes)
