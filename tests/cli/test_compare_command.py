"""`mltk compare`: trained learners on the same tasks, with the numbers of the library."""

import dataclasses
import json
from pathlib import Path

import numpy as np

import mltk
from mltk.evaluation import compare


def output(result):
    assert result.exit_code == 0, result.output
    return result.output


SMALL = ("--steps", 2, "--meta-batch", 2, "--shots", 1, "--queries", 1)


def train(run, name, *more):
    output(run("train", name, "--data", "glyphs", *SMALL, "--ways", 3, "--out", f"runs/{name}", *more))


def test_the_numbers_are_those_of_the_library(run):
    for name in ("prototypical", "matching"):
        train(run, name)
    folders = ("runs/prototypical", "runs/matching")
    words = ("--episodes", 6, "--seed", 2, "--over", "classes", "--json", "x.json", "--markdown", "x.md")
    said = output(run("compare", *folders, *words, "--ways", 4, "--queries", 2))
    found = json.loads(Path("x.json").read_text())
    saved = mltk.load_run("runs/matching")
    tasks = mltk.data.Glyphs().held_out().tasks(4, 1, 2)
    alone = mltk.evaluate(saved.algorithm, saved.run.meta_params, tasks, episodes=6, seed=2)
    assert found["learners"]["runs/matching"]["values"] == alone.values.tolist()
    assert "runs/prototypical: Prototypical after 2 meta-iterations" in said
    assert "4-way 1-shot, on 400 unseen classes" in said
    values = np.asarray(found["learners"]["runs/prototypical"]["values"])
    other = dataclasses.replace(alone, values=values)
    names = ("runs/prototypical", "runs/matching")
    assert said.splitlines()[-1] == str(compare(other, alone, over="classes", names=names))
    (pair,) = found["comparisons"]
    assert pair == compare(other, alone, over="classes", names=names).to_dict()
    read = mltk.evaluation.Table.from_json("x.json")
    assert [str(each) for each in read.comparisons(over="classes")] == said.splitlines()[-1:]
    assert Path("x.md").read_text().startswith("| learner | accuracy | loss |")


def test_vectors_are_compared_too(run):
    for name in ("maml", "meta-sgd"):
        output(run("train", name, "--data", "sinusoid", "--steps", 2, "--out", f"runs/{name}"))
    words = ("compare", "runs/maml", "runs/meta-sgd", "--episodes", 40)
    said = output(run(*words))
    assert "2 learners on the same 40 tasks" in said
    assert "runs/maml − runs/meta-sgd: mse" in said
    assert output(run(*words, "--workers", 2)).splitlines()[-1] == said.splitlines()[-1]


def test_what_cannot_be_said_or_kept_is_refused_before_anything_is_evaluated(run):
    for name in ("maml", "meta-sgd"):
        output(run("train", name, "--data", "sinusoid", "--steps", 2, "--out", f"runs/{name}"))
    words = ("compare", "runs/maml", "runs/meta-sgd", "--episodes", 10**9)
    for over in ("classes", "groups"):
        found = run(*words, "--over", over)
        assert found.exit_code == 1
        assert f"error: --over is {over}, but the tasks do not say which {over} they are of" in found.output
    for option in ("--json", "--markdown"):
        for path in ("missing/x", "runs", ""):
            found = run(*words, option, path)
            assert found.exit_code == 2
            assert f"{path!r} cannot be written; expected a file in a folder that is there" in found.output


def test_runs_of_other_tasks_are_refused(run):
    train(run, "prototypical")
    output(run("train", "maml", "--data", "sinusoid", "--steps", 2, "--out", "runs/maml"))
    found = run("compare", "runs/prototypical", "runs/maml")
    assert found.exit_code == 1
    assert "expected the same tasks" in found.output
    found = run("compare", "runs/prototypical", "runs/prototypical")
    assert found.exit_code == 2
    assert "two different run folders" in found.output
