"""When no further pass would change an answer, and how long a task may be looked at."""

import time

import numpy as np
import pytest
from assertions import agree
from nearest_learner import Nearest, arrays, noisy, sorted_by_label
from routes import NUMPY
from scipy.stats import t as student

import mltk
from mltk.data.images.jitter import Jitter
from mltk.toolkit import TestTimeScaler
from mltk.toolkit.passes import settled

BLOBS = mltk.data.Blobs(ways=4, shots=3, queries=2, features=3, separation=2)
PIXELS = mltk.algorithms.Prototypical(mltk.models.Sequential([mltk.ops.Flatten()]), temperature=2.0)
VECTORS = mltk.algorithms.Prototypical(mltk.models.Sequential([]))


def test_a_label_is_settled_by_students_distribution_of_what_is_still_to_come():
    rng = np.random.default_rng(0)
    votes = rng.normal([0.3, 0.0, -0.2], 0.4, (6, 2, 50, 3))
    totals = np.asarray([9, 30])
    found = settled(votes, totals, 0.9)
    for task, query in np.ndindex(2, 50):
        mine = votes[:, task, query]
        best = mine.mean(axis=0).argmax()
        chances = []
        for other in {0, 1, 2} - {best}:
            lead = mine[:, best] - mine[:, other]
            scale = lead.std(ddof=1) * np.sqrt(1 / 6 - 1 / totals[task])
            chances.append(student.sf(lead.mean() / scale, 5))
        assert found[task, query] == (max(chances) < 0.05)
    assert 0.1 < found.mean() < 0.9


def test_a_label_that_will_be_tied_is_settled_as_rarely_as_is_said():
    """With the final lead taken away, each look is wrong with the probability that was promised."""
    rng = np.random.default_rng(0)
    total, done, count = 16, 5, 40_000
    lead = rng.normal(0, 1, (total, count))
    lead -= lead.mean(axis=0)
    votes = np.stack([lead, np.zeros_like(lead)], axis=-1)[:done, None]
    wrong = settled(votes, np.asarray([total]), 0.9).mean()
    assert abs(wrong - 0.2) < 3 * np.sqrt(0.2 * 0.8 / count)  # either of both labels may lead


def test_few_settled_labels_would_have_changed_and_passes_are_saved():
    rng = np.random.default_rng(1)
    hard = np.repeat([0.0, 0.3, 2.0, 5.0], 500)

    class Drawn(Nearest):
        def predict(self, state, query_x):
            noise = rng.normal(0, 1, (1, hard.size))
            return np.stack([hard + noise, np.zeros_like(noise[0]) + 0 * noise], axis=-1).reshape(-1, 1, 2)[
                query_x[:, 0, 0].astype(int)
            ]

    numbers = np.arange(hard.size, dtype=float)[:, None, None]
    labels = np.zeros((hard.size, 1), int)
    state = rng.bit_generator.state
    answers = {}
    for confidence in (None, 0.95):
        rng.bit_generator.state = state
        scaler = TestTimeScaler(Drawn(), refits="again", confidence=confidence)
        answers[confidence] = scaler.predict({}, numbers, labels, numbers, compute=16)
    changed = answers[0.95].labels != answers[None].labels
    assert changed.mean() < 0.05
    passes = answers[0.95].passes.reshape(4, 500).mean(axis=1)
    assert (np.diff(passes) < 0).all()
    assert passes[3] < 4 < 8 < passes[0]
    assert (answers[None].passes == 16).all()


def test_a_task_ends_when_all_its_labels_are_settled():
    episode = mltk.data.Glyphs(4, 8, 5, image_size=12).tasks(4, 1, 3).sample(6, 0, NUMPY)
    learner = mltk.algorithms.Prototypical(PIXELS.embedding, temperature=20.0)
    scaler = TestTimeScaler(
        learner, views=Jitter(rotation=5, scale=0.05, shear=0.05, translation=1), confidence=0.8
    )
    answer = scaler.predict({}, *arrays(episode), compute=12)
    assert (answer.passes == answer.settled.max(axis=1)).all()
    assert 3 <= answer.settled.min() < answer.settled.max() == 12
    assert (answer.settled.min(axis=1) < answer.passes).any()


def test_each_task_has_a_budget_of_its_own():
    episode = BLOBS.sample(3, 0, NUMPY)
    scaler = TestTimeScaler(VECTORS, views=noisy)
    answer = scaler.predict({}, *arrays(episode), compute=np.asarray([1, 4, 2]))
    assert answer.passes.tolist() == [1, 4, 2]
    for task, compute in enumerate((1, 4, 2)):
        one = [array[task : task + 1] for array in arrays(episode)]
        agree(answer.probabilities[task], scaler.predict({}, *one, compute=compute).probabilities[0])


@pytest.mark.parametrize(("seconds", "passes"), [(0, 1), (3.5, 1), (6, 2), (100, 9)])
def test_no_pass_is_begun_that_would_last_too_long(seconds, passes, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    class Slow(Nearest):
        def predict(self, state, query_x):
            clock[0] += 3
            return super().predict(state, query_x)

    x, y, query = sorted_by_label(BLOBS.sample(2, 0, NUMPY))
    scaler = TestTimeScaler(Slow(), views=noisy)
    answer = scaler.predict({}, x, y, query, compute=9, seconds=seconds)
    assert answer.passes.tolist() == [passes] * 2
    assert answer.stopped == ("compute" if passes == 9 else "seconds")
    assert answer.seconds == 3 * passes
