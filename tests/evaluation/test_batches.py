"""No result depends on how many tasks are adapted to at once, even where tasks differ in their form."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routes import NUMPY
from test_evaluation import Memory
from test_omniglot_challenge import Nearest

import mltk
from mltk import ops
from mltk.data import Bandits
from mltk.errors import SettingError, ShapeError
from mltk.evaluation import Runs, is_transductive, omniglot_challenge, returns
from mltk.normalization import calibrate

FEATURES = 6


@dataclass(frozen=True)
class Ragged:
    """Gaussian classes; each block has ways, shots and queries of its own."""

    shapes: tuple[tuple[int, int, int], ...]

    def sample(self, n_tasks, rng, backend):
        rng = np.random.default_rng(rng)
        ways, shots, queries = self.shapes[rng.integers(len(self.shapes))]
        means = 2 * rng.normal(size=(n_tasks, ways, 1, FEATURES))
        parts = []
        for count in (shots, queries):
            x = means + rng.normal(size=(n_tasks, ways, count, FEATURES))
            labels = np.tile(np.repeat(np.arange(ways), count), (n_tasks, 1))
            parts += [backend.asarray(x.reshape(n_tasks, -1, FEATURES)), backend.asarray(labels)]
        return mltk.Episode(*parts, ways=ways, backend=backend)


# Six support rows and twelve queries in any case: only the ways tell these blocks apart.
ALIKE = Ragged(((2, 3, 6), (6, 1, 2), (3, 2, 4)))
# Ways agree; shots or queries differ.
UNLIKE = Ragged(((3, 2, 4), (3, 1, 4), (3, 2, 7)))
PROTOTYPICAL = mltk.algorithms.Prototypical(mltk.models.Sequential([]))


def reference(learner, meta, source, episodes, seed):
    """The accuracy of each task, every task alone."""
    values = []
    for task in range(episodes):
        block = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, task // 20)))
        episode = source.sample(20, block, NUMPY).take(slice(task % 20, task % 20 + 1))
        state = learner.adapt(meta, episode.support_x, episode.support_y)
        right = learner.predict(state, episode.query_x).argmax(axis=-1) == episode.query_y
        values.append(right.mean())
    return np.asarray(values)


@settings(max_examples=25)
@given(
    source=st.sampled_from([ALIKE, UNLIKE, Ragged((*ALIKE.shapes, *UNLIKE.shapes))]),
    batch=st.sampled_from([1, 7, 19, 20, 21, 40, 47, 60, 1000]),
    episodes=st.integers(1, 90),
    seed=st.integers(0, 1000),
)
def test_accuracies_of_ragged_sources_do_not_depend_on_the_batch(source, batch, episodes, seed):
    found = mltk.evaluate(PROTOTYPICAL, {}, source, episodes=episodes, seed=seed, backend=NUMPY, batch=batch)
    np.testing.assert_array_equal(found.values, reference(PROTOTYPICAL, {}, source, episodes, seed))
    assert found.transductive is False


@pytest.mark.parametrize("source", [ALIKE, UNLIKE])
@pytest.mark.parametrize("batch", [1, 20, 33, 80])
def test_so_do_those_of_learners_with_a_fixed_number_of_outputs(source, batch, backend64):
    learner = mltk.algorithms.MAML(mltk.models.mlp([FEATURES, 6]), "cross_entropy", inner_lr=0.1)
    meta = learner.init(backend64, 0)
    found = mltk.evaluate(learner, meta, source, episodes=75, seed=5, batch=batch)
    expected = reference(learner, learner.init(NUMPY, 0), source, 75, 5)
    np.testing.assert_array_equal(found.values, expected)


class Crowd(mltk.algorithms.Prototypical):
    """Its predictions depend on the other queries of a task, if it has more than 12 of them."""

    def predict(self, state, query_x):
        outputs = super().predict(state, query_x)
        return outputs + (query_x.sum(axis=1, keepdims=True)[..., :1] if query_x.shape[1] > 12 else 0)


@pytest.mark.parametrize("seed", range(4))
def test_whether_predictions_are_transductive_does_not_depend_on_the_batch_either(seed):
    found = {
        batch: mltk.evaluate(
            Crowd(mltk.models.Sequential([])), {}, UNLIKE, episodes=60, seed=seed, backend=NUMPY, batch=batch
        ).transductive
        for batch in (1, 2, 20, 60)
    }
    block = UNLIKE.sample(20, np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1, 0))), NUMPY)
    assert set(found.values()) == {block.query_x.shape[1] > 12}


@dataclass(frozen=True)
class Wrong:
    """A source whose blocks are not what was asked for."""

    tasks: tuple[int, ...]
    regression: bool = False

    def sample(self, n_tasks, rng, backend):
        turn = int(np.random.default_rng(rng).integers(len(self.tasks)))
        if self.regression and turn:
            return mltk.data.Sinusoid(3, 3).sample(n_tasks, 0, backend)
        return mltk.data.Blobs(2, 2, 2, features=1).sample(self.tasks[turn], 0, backend)


@pytest.mark.parametrize("tasks", [1, 19, 21, 40])
def test_a_source_that_gives_another_number_of_tasks_is_an_error(tasks):
    with pytest.raises(ShapeError, match=rf"gave {tasks} tasks; expected 20"):
        mltk.evaluate(PROTOTYPICAL, {}, Wrong((tasks,)), episodes=30, backend=NUMPY)


def test_accuracies_and_squared_errors_are_not_averaged():
    learner = mltk.algorithms.RidgeRegression(mltk.models.Sequential([ops.Linear(1, 2)]))
    meta = learner.init(NUMPY, 0)
    with pytest.raises(SettingError, match="both classification and regression"):
        mltk.evaluate(learner, meta, Wrong((20, 20), regression=True), episodes=400)


class Narrow:
    """Predicts one number where two are wanted."""

    def adapt(self, meta_params, support_x, support_y):
        return support_y[..., :1].mean(axis=1, keepdims=True)

    def predict(self, state, query_x):
        return np.broadcast_to(state, (*query_x.shape[:2], 1))


def test_errors_of_fewer_outputs_than_targets_are_not_broadcast():
    class Pairs:
        def sample(self, n_tasks, rng, backend):
            x, y = backend.asarray(rng.normal(size=(n_tasks, 4, 3))), rng.normal(size=(n_tasks, 4, 2))
            return mltk.Episode(x, backend.asarray(y), x, backend.asarray(y), backend=backend)

    with pytest.raises(ShapeError, match=r"predictions have shape \(20, 4, 1\); expected \(20, 4, 2\)"):
        mltk.evaluate(Narrow(), {}, Pairs(), episodes=20, backend=NUMPY)


@dataclass(frozen=True)
class RaggedBandits:
    """Blocks of bandits with numbers of pulls and trajectories of their own."""

    def sample(self, n_tasks, rng, backend):
        trajectories = int(rng.integers(3, 9))
        return Bandits(5, trajectories, pulls=trajectories % 3 + 1).sample(n_tasks, rng, backend)


def test_returns_of_ragged_tasks_are_those_of_each_block_alone():
    model = mltk.models.Sequential([ops.Linear(1, 5)])
    learner = mltk.algorithms.StochasticMAML(model, inner_lr=0.5)
    meta = learner.init(NUMPY, 0)
    found = returns(learner, meta, RaggedBandits(), episodes=50, seed=3)
    for block in range(3):
        rng = np.random.default_rng(np.random.SeedSequence(3, spawn_key=(1, block)))
        drawn = RaggedBandits().sample(20, rng, NUMPY)
        here = slice(20 * block, min(20 * block + 20, 50))
        for result, params in ((found.before, meta), (found.after, learner.adapt(meta, drawn))):
            expected = learner.returns(params, drawn)[: here.stop - here.start]
            np.testing.assert_allclose(result.values[here], expected, rtol=1e-12)


def test_errors_of_the_challenge_are_those_of_each_run_alone():
    rng = np.random.default_rng(0)
    support, query = rng.random((5, 4, 1, 6, 6)), rng.random((5, 7, 1, 6, 6))
    runs = Runs(tuple("abcde"), support, query, rng.integers(0, 4, (5, 7)))
    meta = {"w": np.zeros(1)}
    together = omniglot_challenge(Nearest(), meta, runs).errors
    assert 0 < together.mean() < 1
    alone = [
        omniglot_challenge(Nearest(), meta, Runs(*(part[run : run + 1] for part in runs))).error
        for run in range(5)
    ]
    np.testing.assert_array_equal(together, alone)


def test_calibration_on_a_ragged_source_counts_every_example_alike():
    model = mltk.models.Sequential(
        [ops.Linear(FEATURES, 4), ops.BatchNorm(4, spatial_axes=0, statistics="population"), ops.Tanh()]
    )
    learner = mltk.algorithms.Prototypical(model)
    meta = learner.init(NUMPY, 1)
    found = learner.calibrate(meta, Ragged((*ALIKE.shapes, *UNLIKE.shapes)), episodes=9, seed=2)
    rng = np.random.default_rng(np.random.SeedSequence(2, spawn_key=(2,)))
    rows = []
    for _ in range(9):
        episode = Ragged((*ALIKE.shapes, *UNLIKE.shapes)).sample(1, rng, NUMPY)
        rows += [episode.support_x[0], episode.query_x[0]]
    expected = calibrate(model, meta, [np.concatenate(rows)[None]])
    for name in ("running_mean", "running_var"):
        np.testing.assert_allclose(found["1"][name], expected["1"][name], rtol=1e-12)


@pytest.mark.parametrize("tasks", [1, 2, 5])
@pytest.mark.parametrize("statistics", ["batch", "support"])
def test_more_tasks_to_try_give_the_same_answer(tasks, statistics):
    model = mltk.models.Sequential(
        [ops.Linear(FEATURES, 4), ops.BatchNorm(4, spatial_axes=0, statistics=statistics), ops.Tanh()]
    )
    learner = mltk.algorithms.Prototypical(model)
    meta = learner.init(NUMPY, 0)
    episode = ALIKE.sample(tasks, 0, NUMPY)
    sets = (episode.support_x, episode.support_y, episode.query_x)
    assert is_transductive(learner, meta, *sets, backend=NUMPY) is (statistics == "batch")


class Together(Memory):
    """Cannot adapt to a single task."""

    def adapt(self, meta_params, support_x, support_y):
        if len(support_x) == 1:
            raise ValueError("alone?")
        return super().adapt(meta_params, support_x, support_y)


def test_a_learner_that_cannot_do_a_task_alone_is_judged_all_the_same():
    source = mltk.data.Sinusoid(shots=5, queries=7)
    found = mltk.evaluate(Together(), {}, source, episodes=40, backend=NUMPY)
    np.testing.assert_array_equal(
        found.values, mltk.evaluate(Memory(), {}, source, episodes=40, backend=NUMPY).values
    )
    assert found.transductive is None
    assert mltk.evaluate(Memory(), {}, source, episodes=40, backend=NUMPY).transductive is False
