"""Curricula: what they choose and weigh, by exact sums over a finite family; runs with them resume."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from routes import AUTOGRAD, NUMPY
from run_contents import assert_same_run
from scipy import special, stats

import mltk
from mltk import tree
from mltk.cli.held_out import tasks_to_test_on
from mltk.cli.recipes import Wishes
from mltk.data.source import Proposal
from mltk.episode import joined
from mltk.errors import DivergedError, NotFiniteError, RunError, SettingError
from mltk.task_analysis.curricula import (
    ClassConditional,
    ClassPairs,
    Curriculum,
    HardMining,
    UniformDifficulty,
)
from mltk.task_analysis.curricula.of_tasks import Drawn, difficulty
from mltk.task_analysis.curricula.uniform_difficulty import effective_number, importance, updated
from mltk.training.trained_classes import read_classes

SINUSOIDS = mltk.data.Sinusoid(shots=4, queries=3)
GLYPHS = mltk.data.Glyphs(2, 5, 4, image_size=16).tasks(3, 2, 2)
MAML = mltk.algorithms.MAML(mltk.models.mlp([1, 5, 1]), "mse", inner_lr=0.05)
EMBEDDING = mltk.models.Sequential([mltk.ops.Flatten(), mltk.ops.Linear(256, 4)])
PROTOTYPICAL = mltk.algorithms.Prototypical(EMBEDDING)
ALL = [HardMining(SINUSOIDS), Curriculum(SINUSOIDS, steps=15), UniformDifficulty(SINUSOIDS)]
BY_CLASS = [ClassConditional(GLYPHS), ClassPairs(GLYPHS)]
by_class = pytest.mark.parametrize("tasks", BY_CLASS, ids=lambda tasks: type(tasks).__name__)
named = pytest.mark.parametrize("tasks", ALL, ids=lambda tasks: type(tasks).__name__)


def proposed(curriculum, state, n_tasks, meta, learner=MAML, seed=0):
    rng = np.random.default_rng(seed)
    return curriculum.propose(n_tasks, rng, NUMPY, learner=learner, meta_params=meta, state=state)


def gradient(meta, episode):
    value, grads = MAML.value_and_grad(meta, episode)
    return np.concatenate([np.ravel(leaf) for leaf in (value, *tree.leaves(grads))])


META = MAML.init(NUMPY, 0)
FAMILY = [SINUSOIDS.sample(1, seed, NUMPY) for seed in range(3)]
GRADIENTS = np.stack([gradient(META, task) for task in FAMILY])
HARD = difficulty(MAML, META, joined(FAMILY))


def expected(make, draws):
    """The mean meta-gradient of what is proposed over all equally likely draws from the family."""
    found = [
        gradient(META, make(Drawn(joined([FAMILY[task] for task in draw]))))
        for draw in product(range(3), repeat=draws)
    ]
    return np.mean(found, axis=0)


def test_weights_by_difficulty_give_the_gradient_of_the_weighted_family_exactly():
    mean, deviation = HARD.mean() + 0.3, 1.2 * HARD.std()
    state = {"seen": 99.0, "total": 4.0, "mean": mean, "squares": 4 * deviation**2}
    low, high = stats.norm.interval(0.99, mean, deviation)
    weights = stats.uniform.pdf(HARD, low, high - low) / stats.norm.pdf(HARD, mean, deviation)
    assert weights.max() > 1.5 * weights.min() > 0
    target = weights @ GRADIENTS / 3

    def by(divisor):
        return expected(lambda s: proposed(UniformDifficulty(s, divisor), state, 2, META).episode, 2)

    scale = np.abs(target).max()
    np.testing.assert_allclose(by("tasks"), target, rtol=0, atol=1e-12 * scale)
    assert np.abs(by("effective") - target).max() > 1e-2 * scale  # as published, it is biased
    assert np.abs(GRADIENTS.mean(axis=0) - target).max() > 1e-2 * scale


def test_hard_mining_follows_the_law_of_the_hardest_which_is_not_that_of_the_tasks():
    found = expected(lambda s: proposed(HardMining(s, candidates=2), {}, 1, META).episode, 2)
    chances = np.empty(3)
    chances[np.argsort(HARD)] = np.array([1, 3, 5]) / 9  # of the larger of two draws
    scale = np.abs(GRADIENTS).max()
    np.testing.assert_allclose(found, chances @ GRADIENTS, rtol=0, atol=1e-12 * scale)
    assert np.abs(found - GRADIENTS.mean(axis=0)).max() > 1e-2 * scale


def test_pacing_goes_from_the_easiest_to_all():
    pool = SINUSOIDS.sample(24, 3, NUMPY)
    order = np.argsort(difficulty(MAML, META, pool))
    curriculum = Curriculum(Drawn(pool), steps=10, first=0.25, candidates=4)
    for step, reach in ((0, 6), (5, 15), (10, 24), (30, 24)):
        taken = set()
        for seed in range(60):
            proposal = proposed(curriculum, {"step": np.asarray(step)}, 6, META, seed=seed)
            own = [
                int(np.argmin(np.abs(pool.query_y - y).sum(axis=(1, 2)))) for y in proposal.episode.query_y
            ]
            assert len(set(own)) == 6
            taken |= set(own)
            assert proposal.state["step"] == step + 1
        assert taken == set(order[:reach].tolist())
    assert proposal.episode.weights is None


def difficulty_by_hand(learner, meta, episode):
    """The loss of the queries, by its definition."""
    outputs = learner.predict(learner.adapt(meta, episode.support_x, episode.support_y), episode.query_x)
    outputs, y = episode.backend.to_numpy(outputs), episode.backend.to_numpy(episode.query_y)
    if episode.ways is None:
        return [np.mean((o - t) ** 2) for o, t in zip(outputs, y, strict=True)]
    right = np.take_along_axis(outputs, y[..., None], -1)[..., 0]
    return (special.logsumexp(outputs, axis=-1) - right).mean(axis=1)


@pytest.mark.parametrize("backend", [NUMPY, AUTOGRAD], ids=["numpy", "autograd"])
def test_difficulty_is_the_loss_of_the_queries(backend):
    for learner, tasks in ((MAML, SINUSOIDS), (PROTOTYPICAL, GLYPHS)):
        meta, episode = learner.init(backend, 0), tasks.sample(5, 0, backend)
        wanted = difficulty_by_hand(learner, meta, episode)
        np.testing.assert_allclose(difficulty(learner, meta, episode), wanted, rtol=1e-12)


@pytest.mark.parametrize("tasks", [UniformDifficulty(GLYPHS), ClassPairs(GLYPHS)], ids=["loss", "classes"])
def test_batch_norm_takes_the_statistics_of_the_tasks_at_hand(tasks):
    norm = mltk.ops.BatchNorm(4, statistics="population", spatial_axes=0)
    layers = [mltk.ops.Flatten(), mltk.ops.Linear(256, 4), norm, mltk.ops.ReLU()]
    learner = mltk.algorithms.Prototypical(mltk.models.Sequential(layers))
    meta, episode = learner.init(NUMPY, 0), GLYPHS.sample(5, 0, NUMPY)
    x = np.concatenate([episode.support_x, episode.query_x], axis=1).reshape(-1, 256)
    linear = meta["1"]
    rows = x @ linear["weight"].T + linear["bias"]
    moments = {"running_mean": rows.mean(axis=0), "running_var": rows.var(axis=0)}
    ready = {**meta, "2": {**meta["2"], **moments}}
    wanted = difficulty_by_hand(learner, ready, episode)
    np.testing.assert_allclose(difficulty(learner, meta, episode), wanted, rtol=1e-6)
    run = mltk.train(learner, tasks, backend=NUMPY, steps=3, meta_batch=2)
    assert 0 < mltk.evaluate(learner, run.meta_params, GLYPHS, episodes=20, backend=NUMPY).mean <= 1


numbers = st.lists(st.floats(-50, 50), min_size=1, max_size=6)


@given(st.lists(numbers, min_size=1, max_size=6), st.floats(0, 1))
def test_the_online_normal_is_the_weighted_one(batches, memory):
    state = UniformDifficulty(SINUSOIDS).start()
    for batch in batches:
        state = updated(state, np.asarray(batch), memory)
    ages = np.repeat(np.arange(len(batches))[::-1], [len(batch) for batch in batches])
    values, weights = np.concatenate(batches), memory ** ages.astype(float)
    mean = np.average(values, weights=weights)
    assert state["seen"] == len(values)
    np.testing.assert_allclose(state["total"], weights.sum(), rtol=1e-12)
    np.testing.assert_allclose(state["mean"], mean, rtol=0, atol=1e-11)
    np.testing.assert_allclose(state["squares"], weights @ (values - mean) ** 2, rtol=1e-9, atol=1e-9)


def test_degenerate_difficulties_and_those_out_of_reach():
    alike = {"seen": 50.0, "total": 50.0, "mean": 2.0, "squares": 0.0}
    assert importance(np.array([2.0, 9.0]), alike).tolist() == [1, 1]
    few = {"seen": 29.0, "total": 29.0, "mean": 2.0, "squares": 29.0}
    assert importance(np.array([2.0, 9.0]), few).tolist() == [1, 1]
    known = few | {"seen": 30.0}
    assert importance(np.array([9.0, -1e200, 4.58]), known).tolist() == [0, 0, 0]
    assert effective_number(np.zeros(3)) == 0
    assert effective_number(np.array([0.0, 2.0, 2.0])) == 2
    far = {name: np.asarray(value) for name, value in (known | {"mean": 1e6}).items()}
    proposal = proposed(UniformDifficulty(SINUSOIDS), far, 4, META)
    assert proposal.episode.weights.tolist() == [0] * 4


def test_weights_that_tasks_have_already_are_kept():
    weighted = Drawn(replace(joined(FAMILY), weights=np.array([1.0, 0.0, 3.0])))
    curriculum = UniformDifficulty(weighted)
    assert proposed(curriculum, curriculum.start(), 3, META).episode.weights.tolist() == [1, 0, 3]


class KilledError(Exception):
    """Stands for a kill: nothing is written after it."""


@pytest.mark.parametrize("tasks", ALL + BY_CLASS, ids=lambda tasks: type(tasks).__name__)
@pytest.mark.parametrize("backend", [NUMPY, AUTOGRAD], ids=["numpy", "autograd"])
def test_a_run_that_is_killed_and_goes_on_is_the_same_bit_for_bit(tasks, backend, tmp_path):
    settings = {"backend": backend, "steps": 24, "meta_batch": 4, "log_every": 3, "checkpoint_every": 5}
    learner, figure = (MAML, "difficulty") if tasks in ALL else (PROTOTYPICAL, "error")
    straight = mltk.train(learner, tasks, out=tmp_path / "straight", **settings)
    for last in (9, 18):

        def kill(step, steps, loss, last=last):
            if step == last:
                raise KilledError

        with pytest.raises(KilledError):
            mltk.train(learner, tasks, out=tmp_path / "killed", resume=True, progress=kill, **settings)
    mltk.train(learner, tasks, out=tmp_path / "killed", resume=True, **settings)
    assert_same_run(tmp_path / "killed", tmp_path / "straight")
    assert all(np.isfinite(line[figure]) for line in straight.history)
    assert mltk.load_run(tmp_path / "straight").tasks.sample(2, 0, NUMPY).support_x.shape[0] == 2
    if not isinstance(tasks, HardMining):  # a checkpoint that does not hold the state is not gone on with
        path = tmp_path / "killed" / "checkpoint.npz"
        with np.load(path) as arrays:
            kept = {name: arrays[name] for name in arrays.files if not name.startswith("proposer.")}
        assert len(kept) < len(arrays.files)
        np.savez(path, **kept)
        with pytest.raises(RunError, match="lacks"):
            mltk.train(learner, tasks, out=tmp_path / "killed", resume=True, **settings | {"steps": 30})


def test_classes_and_settings_are_those_of_the_tasks(tmp_path):
    wrapped = UniformDifficulty(GLYPHS)
    for name, tasks in (("plain", GLYPHS), ("wrapped", wrapped)):
        mltk.train(PROTOTYPICAL, tasks, backend=NUMPY, steps=2, out=tmp_path / name)
    assert read_classes(tmp_path / "wrapped") == read_classes(tmp_path / "plain") is not None
    assert not hasattr(UniformDifficulty(SINUSOIDS), "class_names")
    assert not hasattr(wrapped, "prefetch")
    np.testing.assert_array_equal(wrapped.sample(3, 1, NUMPY).query_x, GLYPHS.sample(3, 1, NUMPY).query_x)


@named
def test_what_is_refused(tasks):
    kind = type(tasks)
    options = {"steps": 3} if kind is Curriculum else {}
    for wrong in (tasks, "sinusoid"):
        with pytest.raises(SettingError, match="tasks is"):
            kind(wrong, **options)
    infinite = tree.map(lambda leaf: leaf * 1e300, META)
    with np.errstate(all="ignore"), pytest.raises(DivergedError, match="task 0"):
        proposed(tasks, tasks.start(), 2, infinite)
    episode = joined(FAMILY * 4)
    broken = replace(episode, query_x=episode.query_x * np.nan)
    with pytest.raises(NotFiniteError, match="query_x") as error:
        proposed(
            replace(tasks, tasks=Drawn(broken)), tasks.start(), 12 if "Uni" in kind.__name__ else 3, META
        )
    assert not isinstance(error.value, DivergedError)


class Own:
    """A proposer of one's own, which does what a test says."""

    def __init__(self, found=lambda p: p, start=lambda: {"n": np.asarray(0)}):
        self.found, self.begin = found, start

    def sample(self, n_tasks, rng, backend):
        return SINUSOIDS.sample(n_tasks, rng, backend)

    def start(self):
        return self.begin()

    def propose(self, n_tasks, rng, backend, *, learner, meta_params, state):
        return self.found(
            Proposal(self.sample(n_tasks, rng, backend), {"n": state["n"] + 1}, {"x": np.float32(2)})
        )


def test_a_proposer_of_ones_own(tmp_path):
    run = mltk.train(MAML, Own(), backend=NUMPY, steps=3, log_every=1, out=tmp_path / "x")
    assert [line["x"] for line in run.history] == [2.0] * 3


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (lambda p: p.episode, "tasks.propose gave Episode; expected a Proposal"),
        (lambda p: p._replace(episode=p.episode.take(slice(1))), "gave 1 tasks; expected 4"),
        (lambda p: p._replace(state={}), "the state of tasks.propose is {}"),
        (lambda p: p._replace(figures={"loss": 1.0}), "have 'loss'; expected other names"),
    ],
)
def test_what_is_no_proposal_is_refused(found, said):
    with pytest.raises(SettingError, match=said):
        mltk.train(MAML, Own(found), backend=NUMPY, steps=2)
    with pytest.raises(SettingError, match=r"tasks.start gave None"):
        mltk.train(MAML, Own(start=lambda: None), backend=NUMPY, steps=2)


def test_candidates_must_be_as_many_as_asked_for():
    for wrong in (Drawn(joined(FAMILY)), mltk.data.Bandits()):
        for curriculum in (HardMining(wrong), UniformDifficulty(wrong), Curriculum(wrong, steps=3)):
            with pytest.raises(SettingError, match=r"tasks.sample\(.* gave (3|Env|Roll|.*)"):
                mltk.train(MAML, curriculum, backend=NUMPY, steps=2, meta_batch=4)


def test_turned_classes_are_known_through_a_curriculum():
    turned = mltk.data.Glyphs(2, 5, 4, image_size=16).tasks(3, 2, 2, rotations=True)
    found = mltk.evaluate(
        PROTOTYPICAL, PROTOTYPICAL.init(NUMPY, 0), HardMining(turned), episodes=60, backend=NUMPY
    )
    assert found.interval("classes").units == 10


def test_a_learner_may_know_more_classes_than_a_task_has():
    more = mltk.algorithms.MAML(
        mltk.models.Sequential([mltk.ops.Flatten(), mltk.ops.Linear(256, 5)]), "cross_entropy"
    )
    for tasks in BY_CLASS:
        assert 0 < proposed(tasks, tasks.start(), 2, more.init(NUMPY, 0), learner=more).figures["error"] < 1


def test_the_command_line_tests_a_curriculum_on_unseen_classes(tmp_path):
    for name, tasks in (("plain", GLYPHS), ("pairs", BY_CLASS[1])):
        mltk.train(PROTOTYPICAL, tasks, backend=NUMPY, steps=2, out=tmp_path / name)
    for_test = [tasks_to_test_on(mltk.load_run(tmp_path / name), Wishes()) for name in ("plain", "pairs")]
    assert for_test[0] == for_test[1]
    assert "unseen classes" in for_test[1][1]
