"""`mltk ab`, `--records` and `--monitor`: the numbers of the library, resumed and written down."""

import json
from pathlib import Path

import pytest

import mltk
from mltk.evaluation import Entry


def output(result):
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def folders(run):
    for name, seed in (("a", 0), ("b", 1)):
        words = ("--steps", 2, "--meta-batch", 2, "--shots", 1, "--queries", 3, "--ways", 3)
        output(run("train", "ridge", "--data", "blobs", *words, "--seed", seed, "--out", f"runs/{name}"))
    return ("runs/a", "runs/b")


def test_the_decision_is_that_of_the_library_and_goes_on(run, folders):
    saved = [mltk.load_run(folder) for folder in folders]
    a, b = (Entry(n, each.algorithm, each.run.meta_params) for n, each in zip(folders, saved, strict=True))
    test = mltk.ABTest(a, b, saved[0].tasks, margin=0.02, alpha=0.1, seed=2)
    words = ("ab", *folders, "--out", "ab.json", "--margin", 0.02, "--alpha", 0.1, "--seed", 2)
    said = output(run(*words, "--max-tasks", 20))
    assert str(test.run(20)) in said.splitlines()
    said = output(run(*words, "--max-tasks", 60, "--records", "records.sqlite"))
    found = test.run(60)
    assert found.tasks > 20
    assert str(found) in said.splitlines()
    assert "evidence: runs/a better: e = " in said
    assert "runs/b: RidgeRegression after 2 meta-iterations" in said
    assert json.loads(Path("ab.json").read_text())["values"] == found.values.tolist()
    with mltk.Records("records.sqlite") as records:
        rows = records.rows(learner="runs/b")
    own = {row.episode: row.outcome for row in rows}
    assert [own[task] for task in range(20, found.tasks)] == found.values[1, 20:].tolist()


def test_a_training_is_looked_after_where_that_is_asked_for(run):
    words = ("train", "maml", "--data", "sinusoid", "--steps", 26, "--meta-batch", 2)
    output(run(*words, "--out", "runs/a", "--monitor", "--records", "records.sqlite"))
    output(run(*words, "--out", "runs/b"))
    assert [line["step"] for line in mltk.toolkit.read_monitor("runs/a")[0]] == [1, 25]
    assert not Path("runs/b/monitor.jsonl").exists()
    assert mltk.load_run("runs/a").run.history[-1]["loss"] == mltk.load_run("runs/b").run.history[-1]["loss"]


def test_what_makes_no_sense_is_refused(run, folders):
    for words, said in (
        (("ab", "runs/a", "runs/a"), "two different run folders"),
        (("ab", "runs/a", "runs/none"), "is missing"),
        (("ab", *folders, "--over", "classes"), "expected an object with of_classes"),
        (("ab", *folders, "--alpha", 2), "alpha is 2.0"),
        (("ab", *folders, "--records", "missing/x"), "cannot be written"),
        (("evaluate", "runs/a", "--records", "runs/a/config.toml"), "is no file of records"),
    ):
        found = run(*words)
        assert found.exit_code in (1, 2)
        assert said in found.output
    assert "algorithm" in Path("runs/a/config.toml").read_text()


def test_commands_write_down_what_they_did_once(run, folders):
    kept = ("--records", "records.sqlite")
    said = [output(run("evaluate", "runs/a", "--episodes", 20, *kept)) for _ in range(2)]
    output(run("compare", *folders, "--episodes", 20, *kept))
    output(run("ab", *reversed(folders), "--max-tasks", 20, *kept))
    again = (
        "train",
        "ridge",
        "--data",
        "blobs",
        "--meta-batch",
        2,
        "--shots",
        1,
        "--queries",
        3,
        "--ways",
        3,
    )
    output(run(*again, "--steps", 4, "--out", "runs/a", "--resume", *kept))
    output(run("evaluate", "runs/a", "--episodes", 20, *kept))
    with mltk.Records("records.sqlite") as records:
        found = records.sql("""SELECT learner, run, count(*), avg(outcome), min(episode) FROM records
            GROUP BY learner, run ORDER BY learner, min(rowid)""")
    (_, first, *evaluated), (_, training, *steps), (_, then, *_), (_, both, *a), (_, b_run, *_) = found
    assert [name for name, *_ in found] == ["RidgeRegression"] * 3 + ["runs/a", "runs/b"]
    assert evaluated == a
    assert evaluated[0] == 20
    assert said[0] == said[1]
    assert f"{evaluated[1]:.3f}" in said[0]
    assert (training, steps[0], steps[2]) == ("runs/a/training", 2, 3)
    assert both == b_run != first != then != both
    assert both.startswith("runs/a and runs/b/")


def test_policies_are_not_written_down(run):
    output(run("train", "stochastic-maml", "--data", "bandits", "--steps", 1, "--out", "runs/p"))
    found = run("evaluate", "runs/p", "--records", "records.sqlite")
    assert found.exit_code == 2
    assert "takes tasks of examples" in found.output
