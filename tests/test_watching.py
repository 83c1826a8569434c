"""Whoever watches is told what happened, and changes nothing of it."""

import numpy as np
import pytest

import mltk
from mltk.errors import SettingError

TASKS = mltk.data.Blobs(ways=3, shots=2, queries=5)
LEARNER = mltk.algorithms.Prototypical(mltk.models.mlp([3, 4]))


class Notes:
    def __init__(self):
        self.steps, self.tasks = [], []

    def on_step(self, seen):
        self.steps.append(seen)

    def on_tasks(self, seen):
        self.tasks.append(seen)


@pytest.fixture(params=["numpy", "torch"])
def backend(request):
    if request.param == "torch":
        pytest.importorskip("torch")
    return mltk.backend(request.param, dtype="float64")


def test_each_step_is_told_with_what_it_was_made_of_and_the_run_is_the_same(backend, tmp_path):
    notes = Notes()
    how = {"backend": backend, "steps": 5, "meta_batch": 2, "seed": 3}
    watched = mltk.train(LEARNER, TASKS, watch=[notes, Notes()], out=tmp_path / "run", **how)
    plain = mltk.train(LEARNER, TASKS, **how)
    same = mltk.tree.map(lambda a, b: bool((a == b).all()), watched.meta_params, plain.meta_params)
    assert all(mltk.tree.leaves(same))
    assert [seen.step for seen in notes.steps] == [1, 2, 3, 4, 5]
    optimizer = mltk.optim.Adam(1e-3)
    params = LEARNER.init(backend, 3)
    memory = optimizer.init(params)
    for seen in notes.steps:  # the told gradients retrace the trajectory
        loss, _ = LEARNER.value_and_grad(params, seen.episode)
        assert float(loss) == float(seen.loss)
        assert seen.folder == tmp_path / "run"
        assert (seen.steps, seen.seed) == (5, 3)
        for name, leaf in mltk.tree.flatten(seen.meta_params).items():
            assert (leaf == mltk.tree.flatten(params)[name]).all()
        updates, memory = optimizer.update(seen.grads, memory, params)
        params = mltk.optim.apply_updates(params, updates)
    for name, leaf in mltk.tree.flatten(plain.meta_params).items():
        assert (leaf == mltk.tree.flatten(params)[name]).all()


def test_a_resumed_run_tells_the_steps_that_were_left(tmp_path):
    notes, how = Notes(), {"backend": mltk.backend("numpy"), "out": tmp_path / "run"}
    mltk.train(LEARNER, TASKS, steps=3, **how)
    mltk.train(LEARNER, TASKS, steps=5, resume=True, watch=notes, **how)
    assert [seen.step for seen in notes.steps] == [4, 5]


@pytest.mark.parametrize("workers", [None, 1])
def test_evaluated_tasks_come_in_order_and_are_those_of_the_evaluation(workers):
    notes, be = Notes(), mltk.backend("numpy")
    params = LEARNER.init(be, 0)
    how = {"episodes": 50, "batch": 20, "workers": workers}
    found = mltk.evaluate(LEARNER, params, TASKS, watch=notes, **how)
    assert [seen.first for seen in notes.tasks] == [0, 20, 40]
    assert np.array_equal(np.concatenate([seen.values for seen in notes.tasks]), found.values)
    assert {(seen.name, seen.metric, seen.over) for seen in notes.tasks} == {
        ("Prototypical", "accuracy", "tasks")
    }


def test_comparisons_tell_of_each_learner():
    notes, be = Notes(), mltk.backend("numpy")
    learners = {"a": (LEARNER, LEARNER.init(be, 0)), "b": (LEARNER, LEARNER.init(be, 1))}
    table = mltk.MetaLearningEvaluator(learners, TASKS).run(30, watch=notes)
    for name in learners:
        values = np.concatenate([seen.values for seen in notes.tasks if seen.name == name])
        assert np.array_equal(values, table[name].values)
        losses = np.concatenate([seen.measures["loss"] for seen in notes.tasks if seen.name == name])
        assert np.array_equal(losses, table.outcomes[name].loss)
    hardness = np.concatenate([seen.measures["hardness"] for seen in notes.tasks if seen.name == "a"])
    assert np.array_equal(hardness, table.hardness)
    notes = Notes()
    a, b = (mltk.evaluation.Entry(name, *pair) for name, pair in learners.items())
    result = mltk.ABTest(a, b, TASKS).run(max_tasks=60, watch=notes)
    for row, name in enumerate("ab"):
        values = np.concatenate([seen.values for seen in notes.tasks if seen.name == name])
        assert np.array_equal(values[: result.tasks], result.values[row])


def test_a_race_tells_of_those_who_are_left():
    notes, be = Notes(), mltk.backend("numpy")
    learners = {name: (LEARNER, LEARNER.init(be, seed)) for seed, name in enumerate("abc")}
    found = mltk.evaluation.race(learners, TASKS, max_tasks=130, halving=True, watch=notes)
    assert min(found.tasks.values()) < 130
    for name, met in found.tasks.items():
        mine = [seen for seen in notes.tasks if seen.name == name]
        assert [seen.first for seen in mine] == list(range(0, met, 20))
        assert np.concatenate([seen.values for seen in mine]).mean() == pytest.approx(found.means[name])


def test_what_is_no_watcher_is_refused_before_any_work():
    with pytest.raises(SettingError, match=r"watch is .*expected an object with on_step"):
        mltk.train(LEARNER, TASKS, backend=mltk.backend("numpy"), steps=1, watch="loudly")
