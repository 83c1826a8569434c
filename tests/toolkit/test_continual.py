"""Learning from a stream: the trajectory, what is measured on the way, what is forgotten, and going on."""

from dataclasses import replace

import numpy as np
import pytest
from routes import ANALYTIC, NUMPY, ROUTES

import mltk
from mltk import tree
from mltk.errors import DivergedError, RunError, SettingError, ShapeError
from mltk.toolkit import FixedTasks, OnlineMetaLearner, OnlineState, Replay, recorded_tasks

SINUSOID = mltk.data.Sinusoid(shots=5, queries=8)
DRIFT = [
    mltk.data.Sinusoid(shots=5, queries=8, phase=(b, b + 0.3), amplitude=(2, 4)) for b in (0.0, 1.6, 3.1)
]
MAML = mltk.algorithms.MAML(mltk.models.mlp([1, 12, 1]), "mse")


def flat(backend, params):
    return {name: backend.to_numpy(leaf) for name, leaf in tree.flatten(params).items()}


def assert_equal(one, other, backend=NUMPY):
    one, other = flat(backend, one), flat(backend, other)
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("backend", ROUTES, ids=str)
@pytest.mark.parametrize("memory", ["replay", "latest", "scratch"])
def test_of_one_stage_it_is_meta_training(backend, memory):
    online = OnlineMetaLearner(MAML, backend, updates=7, meta_batch=3, seed=5, episodes=20, memory=memory)
    run = mltk.train(MAML, SINUSOID, backend=backend, steps=7, meta_batch=3, seed=5)
    state = online.run([SINUSOID])
    assert_equal(state.meta_params, run.meta_params, backend)
    own = mltk.evaluate(MAML, run.meta_params, SINUSOID, episodes=20, seed=5)
    assert state.after == ((own.mean,),)
    assert state.on_arrival == state.at_start
    assert state.metric == "mse"


def test_the_same_stage_again_is_longer_training():
    """Without replay the last stage is the source itself, and its tasks go on where they had stopped."""
    online = OnlineMetaLearner(MAML, NUMPY, updates=4, episodes=20, memory="latest")
    run = mltk.train(MAML, SINUSOID, backend=NUMPY, steps=12)
    assert_equal(online.run([SINUSOID] * 3).meta_params, run.meta_params)


def test_replay_is_training_on_all_stages_and_scratch_on_the_last():
    online = OnlineMetaLearner(MAML, NUMPY, updates=5, episodes=20, seed=1)
    first = online.meet(online.start(), DRIFT[0])
    second = online.meet(first, DRIFT[1])
    rng = np.random.default_rng()
    rng.bit_generator.state = first.rng
    params, memory, rule = first.meta_params, first.optimizer, mltk.optim.Adam(1e-3)
    for _ in range(5):
        chosen = rng.integers(2, size=4)
        parts = [DRIFT[k].sample(int((chosen == k).sum()), rng, NUMPY) for k in (0, 1) if (chosen == k).any()]
        _, grads = MAML.value_and_grad(params, mltk.episode.joined(parts))
        updates, memory = rule.update(grads, memory, params)
        params = mltk.optim.apply_updates(params, updates)
    assert_equal(second.meta_params, params)
    alone = replace(online, memory="scratch")
    state = alone.run(DRIFT[:2])
    again = alone.meet(replace(alone.start(), rng=alone.meet(alone.start(), DRIFT[0]).rng), DRIFT[1])
    assert_equal(state.meta_params, again.meta_params)


def test_what_is_measured_is_what_the_definitions_say():
    after = ((0.9,), (0.6, 0.8), (0.7, 0.5, 0.95))
    state = OnlineState({}, {}, {}, (), "accuracy", (0.2, 0.25, 0.3), (0.2, 0.45, 0.4), after)
    assert state.backward_transfer == pytest.approx(((0.7 - 0.9) + (0.5 - 0.8)) / 2)
    assert state.forward_transfer == pytest.approx(((0.45 - 0.25) + (0.4 - 0.3)) / 2)
    assert state.forgetting == pytest.approx(((0.9 - 0.7) + (0.8 - 0.5)) / 2)
    np.testing.assert_allclose(state.regret, np.cumsum([0.7 - 0.2, 0.5 - 0.45, 0.95 - 0.4]))
    risen = replace(state, after=((0.5,), (0.9, 0.8), (0.7, 0.5, 0.95)))
    assert risen.forgetting == pytest.approx(((0.9 - 0.7) + (0.8 - 0.5)) / 2)
    errors = replace(state, metric="mse")
    assert errors.forgetting == pytest.approx(((0.7 - 0.6) + (0.5 - 0.8)) / 2)
    for name in ("backward_transfer", "forward_transfer"):
        assert getattr(errors, name) == -getattr(state, name)
    assert "forgetting" in repr(state)
    assert state.to_dict()["after"] == [list(row) for row in after]
    assert np.isnan(replace(state, after=after[:1]).forgetting)


def test_what_is_judged_is_unseen_and_as_evaluation_judges():
    online = OnlineMetaLearner(MAML, NUMPY, updates=3, episodes=25, seed=2)
    states = [online.start()]
    for stage in DRIFT:
        states.append(online.meet(states[-1], stage))

    def judged(params, stage):
        return mltk.evaluate(MAML, params, stage, episodes=25, seed=2).mean

    last = states[-1]
    assert last.at_start == tuple(judged(states[0].meta_params, stage) for stage in DRIFT)
    assert last.on_arrival == tuple(judged(states[k].meta_params, stage) for k, stage in enumerate(DRIFT))
    for k, row in enumerate(last.after):
        assert row == tuple(judged(states[k + 1].meta_params, stage) for stage in DRIFT[: k + 1])


@pytest.mark.parametrize("backend", [NUMPY, ANALYTIC], ids=str)
def test_a_run_goes_on_bit_for_bit(backend, tmp_path):
    learner = mltk.algorithms.MetaSGD(mltk.models.mlp([1, 6, 1]), "mse")
    online = OnlineMetaLearner(learner, backend, updates=3, episodes=20)
    whole = online.run(DRIFT)
    path = tmp_path / "state.npz"
    online.run(DRIFT[:2], path=path)
    state = online.run(DRIFT, path=path)
    assert_equal(state.meta_params, whole.meta_params, backend)
    assert state.to_dict() == whole.to_dict()
    assert state.rng == whole.rng
    assert online.run(DRIFT, path=path).to_dict() == whole.to_dict()
    for other in (
        replace(online, updates=4),
        replace(online, memory="latest"),
        replace(online, learner=MAML),
    ):
        with pytest.raises(RunError, match="is of a run with"):
            other.run(DRIFT, path=path)
    with pytest.raises(RunError, match="has met 3 stages"):
        online.run(DRIFT[:2], path=path)
    content = path.read_bytes()
    middle = len(content) // 2
    turned = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    for damaged in (b"", content[:200], content[:-30], turned):
        path.write_bytes(damaged)
        with pytest.raises(RunError):
            online.run(DRIFT, path=path)


def test_without_replay_more_is_forgotten_paired_over_seeds():
    """Phases that drift by half a period: the curves of the first stage are those of the last upside down."""
    learner = mltk.algorithms.MAML(mltk.models.mlp([1, 40, 1]), "mse", inner_lr=0.02)
    optimizer = mltk.optim.Adam(0.01)
    found = {"replay": [], "latest": []}
    for seed in range(5):
        online = OnlineMetaLearner(learner, NUMPY, updates=40, optimizer=optimizer, episodes=20, seed=seed)
        for memory in found:
            found[memory].append(replace(online, memory=memory).run(DRIFT).forgetting)
    more = np.subtract(found["latest"], found["replay"])
    assert more.mean() - 2.8 * more.std(ddof=1) / 5**0.5 > 0
    assert np.mean(found["latest"]) > 0


def test_tasks_may_arrive_as_episodes():
    episode = SINUSOID.sample(6, 0, NUMPY)
    drawn = FixedTasks(episode).sample(6, 1, NUMPY)
    assert sorted(drawn.query_y[:, 0, 0]) == sorted(episode.query_y[:, 0, 0])
    again = FixedTasks(episode).sample(40, 1, ANALYTIC)
    assert set(ANALYTIC.to_numpy(again.query_y)[:, 0, 0]) == set(episode.query_y[:, 0, 0])
    online = OnlineMetaLearner(MAML, NUMPY, updates=2, episodes=20)
    state = online.run([episode, SINUSOID])
    assert_equal(state.meta_params, online.run([FixedTasks(episode), SINUSOID]).meta_params)


def test_replay_draws_from_all_alike_and_needs_one_form():
    tasks = Replay(tuple(mltk.data.Sinusoid(5, 8, amplitude=(a, a)) for a in (1, 2, 3)))
    drawn = tasks.sample(600, 0, NUMPY)
    nearest = np.clip(np.ceil(np.abs(drawn.query_y).max((1, 2)) - 1e-9), 1, 3)
    assert (np.bincount(nearest.astype(int), minlength=4)[1:] > 150).all()
    with pytest.raises(ShapeError, match="one form"):
        Replay((SINUSOID, mltk.data.Sinusoid(6, 8))).sample(20, 0, NUMPY)


def test_recorded_tasks_are_those_that_were_evaluated():
    params, records = MAML.init(NUMPY, 0), mltk.Records()
    found = mltk.evaluate(MAML, params, SINUSOID, episodes=45, seed=3, watch=records.watcher(run="a"))
    mltk.train(MAML, SINUSOID, backend=NUMPY, steps=2, watch=records.watcher(run="a"))
    chosen = [row for row in records.rows() if row.episode in (2, 21, 44) or row.metric == "loss"]
    again = recorded_tasks(chosen, SINUSOID, backend=NUMPY).episode
    state = MAML.adapt(params, again.support_x, again.support_y)
    errors = ((MAML.predict(state, again.query_x) - again.query_y) ** 2).mean((1, 2))
    np.testing.assert_allclose(errors, found.values[[2, 21, 44]])
    with pytest.raises(SettingError, match="rows has none"):
        recorded_tasks(chosen, DRIFT[0], backend=NUMPY)


def test_what_cannot_be_learned_is_refused():
    with pytest.raises(SettingError):
        OnlineMetaLearner(MAML, "numpy")
    for wrong in ({"updates": 0}, {"memory": "all"}, {"seed": -1}, {"optimizer": 0.1}):
        with pytest.raises(SettingError):
            OnlineMetaLearner(MAML, NUMPY, **wrong)
    with pytest.raises(SettingError, match="stage"):
        OnlineMetaLearner(MAML, NUMPY).run(["sinusoid"])
    wild = OnlineMetaLearner(MAML, NUMPY, optimizer=mltk.optim.SGD(1e200), updates=4, episodes=20)
    with pytest.raises(DivergedError, match="after stage 1"):
        wild.run([SINUSOID])
