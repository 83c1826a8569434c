"""What is watched is written down: the numbers of the library, once, whichever door they come through."""

import sqlite3
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest

import mltk
from mltk.errors import SettingError
from mltk.toolkit.recording import source_of
from mltk.watching import TasksSeen

TASKS = mltk.data.Blobs(ways=3, shots=2, queries=5)
LEARNER = mltk.algorithms.Prototypical(mltk.models.mlp([3, 4]))


@pytest.fixture(params=["numpy", "torch"])
def backend(request):
    if request.param == "torch":
        pytest.importorskip("torch")
    return mltk.backend(request.param, dtype="float64")


@pytest.fixture
def records(tmp_path):
    with mltk.Records(tmp_path / "records.sqlite") as records:
        yield records


def twice(records, do):
    """What is done twice under one name, and what the second time adds."""
    do(records.watcher(run="r"))
    rows = records.rows()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        do(records.watcher(run="r"))
    assert records.rows() == rows
    return rows


def test_a_training_is_a_bounded_number_of_rows(records, backend, tmp_path):
    steps = 430

    def train(watch):
        mltk.train(LEARNER, TASKS, backend=backend, steps=steps, meta_batch=2, seed=3, watch=watch)

    rows = twice(records, train)
    assert [row.episode for row in rows] == [1, *range(2, steps + 1, 2)]
    assert {(row.run, row.source, row.seed, row.learner, row.metric) for row in rows} == {
        ("r/training", source_of(TASKS), 3, "Prototypical", "loss")
    }
    # The first step, by hand.
    params = LEARNER.init(backend, 3)
    episode = TASKS.sample(2, np.random.default_rng(np.random.SeedSequence(3, spawn_key=(0,))), backend)
    loss, grads = LEARNER.value_and_grad(params, episode)
    flat = np.concatenate([backend.to_numpy(leaf).ravel() for leaf in mltk.tree.leaves(grads)])
    assert rows[0].outcome == float(loss)
    assert rows[0].measures == {"gradient norm": pytest.approx(np.linalg.norm(flat), rel=1e-12)}
    assert rows[0].costs == {}
    assert all(row.costs["seconds"] > 0 for row in rows[1:])


def test_a_run_that_goes_on_adds_the_steps_that_are_new(records, tmp_path):
    how = {"backend": mltk.backend("numpy"), "meta_batch": 2, "watch": records.watcher(run="r")}
    mltk.train(LEARNER, TASKS, steps=60, out=tmp_path / "run", **how)
    mltk.train(LEARNER, TASKS, steps=90, out=tmp_path / "run", resume=True, **how)
    rows = records.rows()
    assert [row.episode for row in rows] == [*range(1, 91)]
    assert {row.trace["folder"] for row in rows} == {str(tmp_path / "run")}
    with mltk.Records() as others:
        mltk.train(LEARNER, TASKS, steps=90, **how | {"watch": others.watcher(run="r")})
        assert [row.outcome for row in others.rows()] == [row.outcome for row in rows]


def test_an_evaluation_is_a_row_for_each_task(records, backend):
    tasks = mltk.data.Glyphs(alphabets=3).tasks(ways=3, shots=1, queries=2, rotations=True)
    learner = mltk.algorithms.Prototypical(mltk.models.Sequential([mltk.ops.Flatten()]))
    found = []

    def evaluate(watch):
        found.append(mltk.evaluate(learner, {}, tasks, episodes=30, seed=2, backend=backend, watch=watch))

    rows = twice(records, evaluate)
    assert [row.outcome for row in rows] == found[0].values.tolist()
    assert [row.episode for row in rows] == [*range(30)]
    assert [row.trace["classes"] for row in rows] == found[0].classes.tolist()
    assert [row.trace["groups"] for row in rows] == found[0].groups.tolist()
    assert all(row.costs["seconds"] > 0 for row in rows)
    assert {(row.run, row.source, row.seed, row.learner, row.metric) for row in rows} == {
        ("r/evaluation", source_of(tasks), 2, "Prototypical", "accuracy")
    }


def test_processes_that_share_the_tasks_write_the_same_rows(records):
    params = LEARNER.init(mltk.backend("numpy"), 0)

    def evaluate(workers):
        watch = records.watcher(run="r")
        mltk.evaluate(LEARNER, params, TASKS, episodes=50, batch=20, workers=workers, watch=watch)
        return records.rows()

    assert len(evaluate(2)) == 50
    assert evaluate(None) == evaluate(2)
    with mltk.Records() as others:
        mltk.evaluate(LEARNER, params, TASKS, episodes=50, watch=others.watcher(run="r"))
        assert [row.outcome for row in others.rows()] == [row.outcome for row in records.rows()]


def named(backend):
    learners = {"narrow": mltk.algorithms.Prototypical(mltk.models.mlp([3, 1])), "wide": LEARNER}
    return {name: (each, each.init(backend, 0)) for name, each in learners.items()}


def test_an_evaluator_writes_what_its_table_says(records, backend):
    evaluator = mltk.MetaLearningEvaluator(named(backend), TASKS)
    tables = []
    rows = twice(records, lambda watch: tables.append(evaluator.run(45, watch=watch)))
    table = tables[0]
    for name in ("narrow", "wide"):
        own = [row for row in rows if row.learner == name]
        assert [row.outcome for row in own] == table[name].values.tolist()
        assert [row.measures["loss"] for row in own] == table.outcomes[name].loss.tolist()
        assert [row.measures["hardness"] for row in own] == table.hardness.tolist()
        assert all(row.costs["seconds"] > 0 for row in own)
    pairs = """SELECT a.episode, a.outcome - b.outcome FROM records a JOIN records b
        USING (run, source, seed, episode) WHERE a.learner = 'narrow' AND b.learner = 'wide' ORDER BY 1"""
    difference = table["narrow"].values - table["wide"].values
    assert records.sql(pairs) == [*enumerate(difference.tolist())]


def test_an_ab_test_writes_the_tasks_that_it_took_whether_it_was_stopped_or_not(records, backend, tmp_path):
    test = mltk.ABTest(*(mltk.evaluation.Entry(name, *pair) for name, pair in named(backend).items()), TASKS)

    def run(watch):
        test.run(max_tasks=20, out=tmp_path / "ab.json", watch=watch)
        return test.run(max_tasks=60, out=tmp_path / "ab.json", watch=watch)

    found = run(records.watcher(run="r"))
    rows = records.rows()
    (tmp_path / "ab.json").unlink()
    run(records.watcher(run="r"))
    assert records.rows() == rows
    for name, values in zip(("narrow", "wide"), found.values, strict=True):
        own = [row.outcome for row in rows if row.learner == name]
        assert own[: found.tasks] == values.tolist()
    # An evaluation of the same learners on the same tasks is the same rows.
    count = len(rows) // 2
    mltk.MetaLearningEvaluator(named(backend), TASKS).run(count, watch=records.watcher(run="r"))
    assert records.rows() == rows


def test_an_ab_test_over_classes_says_which_they_were(records):
    tasks = mltk.data.Glyphs(alphabets=4).tasks(ways=3, shots=1, queries=2)
    first, second = (mltk.algorithms.Prototypical(mltk.models.Sequential([mltk.ops.Flatten()])) for _ in "ab")
    test = mltk.ABTest((first, {}), (second, {}), tasks, over="classes", backend=mltk.backend("numpy"))
    found = test.run(max_tasks=30, watch=records.watcher(run="r"))
    rows = records.rows(learner="a")
    assert rows[0].source == f"{source_of(tasks)} over classes"
    assert [row.outcome for row in rows] == found.values[0].tolist()
    classes = [each for row in rows for each in row.trace["classes"]]
    assert len(classes) == len(set(classes)) == 3 * found.tasks
    assert all(row.costs["seconds"] > 0 for row in rows)


def test_tasks_of_new_classes_are_others_under_the_same_numbers(records):
    seen = TasksSeen("a", LEARNER, TASKS, 0, "tasks", 0, "accuracy", np.asarray([0.25]))
    watch = records.watcher(run="r")
    watch.on_tasks(seen)
    watch.on_tasks(replace(seen, over="classes", values=np.asarray([0.75])))
    assert {row.outcome for row in records.rows()} == {0.25, 0.75}


def test_training_and_evaluation_are_apart_and_a_run_without_a_name_is_another_one(records):
    be = mltk.backend("numpy")
    for watch in (records.watcher(), records.watcher()):
        run = mltk.train(LEARNER, TASKS, backend=be, steps=2, watch=watch)
        mltk.evaluate(LEARNER, run.meta_params, TASKS, episodes=2, watch=watch)
    found = records.sql("SELECT run, count(*) FROM records GROUP BY run")
    assert [count for _, count in found] == [2] * 4
    assert len({run.rpartition("/")[0] for run, _ in found}) == 2
    assert {run.rpartition("/")[2] for run, _ in found} == {"training", "evaluation"}


def test_another_learner_under_the_same_name_is_warned_of(records):
    be = mltk.backend("numpy")
    watch = records.watcher(run="r")
    mltk.evaluate(LEARNER, LEARNER.init(be, 0), TASKS, episodes=20, watch=watch)
    with pytest.warns(UserWarning, match="added again with other outcomes"):
        mltk.evaluate(LEARNER, LEARNER.init(be, 5), TASKS, episodes=20, watch=watch)


def test_policies_and_figures_of_curricula_are_written_down(records):
    be = mltk.backend("numpy")
    tasks = mltk.task_analysis.curricula.HardMining(TASKS)
    mltk.train(LEARNER, tasks, backend=be, steps=3, watch=records.watcher(run="curriculum"))
    policy = mltk.algorithms.StochasticMAML(mltk.models.mlp([1, 2]))
    bandits = mltk.data.Bandits(arms=2, trajectories=2)
    mltk.train(policy, bandits, backend=be, steps=2, watch=records.watcher(run="policy"))
    assert [row.learner for row in records.rows(run="policy")] == ["StochasticMAML"] * 2
    figures = records.rows(run="curriculum")[-1].measures
    assert {"gradient norm"} < figures.keys()


def test_a_seed_that_no_file_can_hold_is_named(records):
    params = LEARNER.init(mltk.backend("numpy"), 0)
    with pytest.raises(SettingError, match=r"seed is .*; expected at most"):
        mltk.evaluate(LEARNER, params, TASKS, episodes=2, seed=2**80, watch=records.watcher())


@dataclass
class Own:
    """A source of a user's own."""

    arrays: np.ndarray

    def sample(self, n_tasks, rng, backend):
        raise NotImplementedError


def test_sources_are_described_alike_only_if_they_draw_the_same():
    assert source_of(TASKS) == source_of(mltk.data.Blobs(ways=3, shots=2, queries=5))
    assert '"type": "mltk.data.Blobs"' in source_of(TASKS)
    some = np.arange(6.0)
    others = [replace(TASKS, shots=1), Own(some), Own(some + 1), mltk.data.Glyphs().tasks(3, 1, 1)]
    others += [mltk.data.Arrays(np.ones((40, 2)) * n, np.arange(40) // 10).tasks(3, 1, 1) for n in (1, 2)]
    others += [replace(others[3], jitter=mltk.data.Jitter()), mltk.data.Glyphs(alphabets=7).tasks(3, 1, 1)]
    found = [source_of(each) for each in [TASKS, *others]]
    assert len(set(found)) == len(found)
    assert source_of(Own(some.copy())) == found[2]
    assert max(map(len, found)) <= 140


def test_a_file_that_fails_ends_the_work_with_its_name(tmp_path):
    path = tmp_path / "records.sqlite"
    records = mltk.Records(path)
    other = sqlite3.connect(path)
    other.execute("DROP TABLE records")
    with pytest.raises(mltk.errors.RunError, match=r"records.sqlite cannot be used \(no such table"):
        mltk.train(LEARNER, TASKS, backend=mltk.backend("numpy"), steps=2, watch=records.watcher())
    other.close()
    records.close()
