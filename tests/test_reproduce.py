"""The published sinusoid table, made in a few steps."""

import json
import subprocess
import sys

import pytest
from rich.console import Console

import mltk
from mltk import reproduce
from mltk.errors import RunError, SettingError
from mltk.reproduce import METHODS, PUBLISHED, SHOTS, Estimate, TableEntry, TableRun, render, sinusoid_table
from mltk.training.runs import load_run

PAPER = """
| 5 shots | MAML | 1.13 ± 0.18 | 0.85 ± 0.14 | 0.71 ± 0.12 |
| | Meta-SGD | 0.90 ± 0.16 | 0.63 ± 0.12 | 0.50 ± 0.10 |
| 10 shots | MAML | 1.17 ± 0.16 | 0.77 ± 0.11 | 0.56 ± 0.08 |
| | Meta-SGD | 0.88 ± 0.14 | 0.53 ± 0.09 | 0.35 ± 0.06 |
| 20 shots | MAML | 1.29 ± 0.20 | 0.76 ± 0.12 | 0.48 ± 0.08 |
| | Meta-SGD | 1.01 ± 0.17 | 0.54 ± 0.08 | 0.31 ± 0.05 |
"""


def shown(outcomes, width=100):
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(render(outcomes))
    return capture.get()


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """Two rows in a few steps, and the reports of their progress."""
    out, reports = tmp_path_factory.mktemp("table"), []
    outcomes = sinusoid_table(
        out=out, shots=(5, 20), steps=30, seed=3, progress=lambda *report: reports.append(report)
    )
    return out, outcomes, reports


def test_the_published_figures_are_those_of_the_paper():
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAPER.strip().splitlines()]
    expected = {(method, SHOTS[row // 2]): tuple(figures) for row, (_, method, *figures) in enumerate(rows)}
    assert {key: tuple(map(str, figures)) for key, figures in PUBLISHED.items()} == expected


def test_settings_are_those_of_the_paper():
    for method in METHODS:
        training = TableRun(method, 10, 60_000, 0)
        assert (training.algorithm.inner_steps, training.algorithm.first_order) == (1, False)
        assert {
            name: shape for name, shape in training.algorithm.model.shapes.items() if "weight" in name
        } == {"0.weight": (40, 1), "2.weight": (40, 40), "4.weight": (1, 40)}
        tasks = training.tasks(10, 10)
        assert (tasks.amplitude, tasks.frequency, tasks.x) == ((0.1, 5.0), (0.8, 1.2), (-5.0, 5.0))
    maml, meta_sgd = (TableRun(method, 5, 1, 0).algorithm for method in METHODS)
    assert (maml.inner_lr, maml.learn_lr) == (0.01, None)
    assert (meta_sgd.inner_lr, meta_sgd.learn_lr) == ((0.005, 0.1), "element")


def test_every_training_of_the_rows_leaves_a_run_with_a_picture(reproduced):
    out, outcomes, reports = reproduced
    names = ["maml-5-shots", "meta-sgd-5-shots", "maml-20-shots", "meta-sgd-20-shots"]
    assert [outcome.training.name for outcome in outcomes] == names
    for name, shots in zip(names, (5, 5, 20, 20), strict=True):
        saved = load_run(out / name)
        assert (saved.run.steps, saved.tasks.shots, saved.tasks.queries) == (30, shots, shots)
        assert (saved.backend.name, saved.backend.dtype) == ("numpy", "float32")
        assert (out / name / "fits.svg").exists()
        steps = [step for training, step, total, _ in reports if training == name and total == 30]
        assert (steps[0], steps[-1]) == (0, 30)
    assert (out / "curves-5-shots.svg").exists()
    assert (out / "curves-20-shots.svg").exists()
    assert not (out / "curves-10-shots.svg").exists()


def test_errors_are_those_of_the_trained_model_on_unseen_tasks(reproduced):
    out, outcomes, _ = reproduced
    saved = load_run(out / "meta-sgd-20-shots")
    tasks = mltk.data.Sinusoid(10, 100, frequency=(0.8, 1.2))
    found = mltk.evaluate(saved.algorithm, saved.run.meta_params, tasks, episodes=1000, seed=3)
    assert outcomes[-1].tested[1].mean == pytest.approx(found.mean, rel=1e-5)
    assert outcomes[-1].tested[1].interval == pytest.approx(found.interval().half_width, rel=1e-5)


def test_the_same_training_in_this_process_ends_alike(reproduced):
    out, _, _ = reproduced
    training = TableRun("MAML", 5, 30, 3)
    run = mltk.train(
        training.algorithm,
        training.tasks(5, 5),
        backend=mltk.backend("numpy"),
        steps=30,
        meta_batch=4,
        seed=3,
    )
    saved = mltk.tree.flatten(load_run(out / training.name).run.meta_params)
    for name, leaf in mltk.tree.flatten(run.meta_params).items():
        assert saved[name] == pytest.approx(leaf, rel=1e-4, abs=1e-6)


def test_tables_hold_both_figures(reproduced):
    out, outcomes, _ = reproduced
    assert (out / "table.txt").read_text() == shown(outcomes)
    cells = json.loads((out / "table.json").read_text())["cells"]
    assert len(cells) == 12
    for cell in cells:
        position = SHOTS.index(cell["tested_with"])
        paper = PUBLISHED[cell["method"], cell["trained_with"]][position]
        assert Estimate(**cell["published"]) == paper
        (ours,) = (
            outcome.tested[position]
            for outcome in outcomes
            if (outcome.training.method, outcome.training.shots) == (cell["method"], cell["trained_with"])
        )
        assert Estimate(**cell["mltk"]) == ours


def test_lower_errors_are_marked_and_counted():
    better, worse = Estimate(0.5, 0.01), Estimate(2.0, 0.02)
    equal = PUBLISHED["MAML", 5][2]
    outcomes = [
        TableEntry(TableRun("MAML", 5, 60_000, 0), (better, worse, equal), 1.0),
        TableEntry(TableRun("Meta-SGD", 5, 60_000, 0), (better, better, worse), 1.0),
    ]
    text = shown(outcomes, width=80)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert rows == [
        ["5", "5", "1.13 ± 0.18", "0.50 ± 0.01 ↓", "0.90 ± 0.16", "0.50 ± 0.01 ↓"],
        ["", "10", "0.85 ± 0.14", "2.00 ± 0.02", "0.63 ± 0.12", "0.50 ± 0.01 ↓"],
        ["", "20", "0.71 ± 0.12", "0.71 ± 0.12", "0.50 ± 0.10", "2.00 ± 0.02"],
    ]
    assert "lower than published: 3 of 6" in text
    assert "published: Li, Zhou, Chen, Li" in text


def test_again_takes_the_trainings_as_they_are_and_more_steps_continue_them(reproduced, tmp_path):
    first = sinusoid_table(out=tmp_path, shots=(5,), steps=20, seed=1)
    before = (tmp_path / "table.json").read_bytes()
    reports = []
    again = sinusoid_table(
        out=tmp_path, shots=(5,), steps=20, seed=1, progress=lambda *report: reports.append(report)
    )
    assert (again, reports) == (first, [])
    assert (tmp_path / "table.json").read_bytes() == before
    sinusoid_table(
        out=tmp_path, shots=(5,), steps=25, seed=1, progress=lambda *report: reports.append(report)
    )
    assert {step for _, step, _, _ in reports} == {20, 21, 22, 23, 24, 25}
    with pytest.raises(RunError, match=r"maml-5-shots failed: .*other settings"):
        sinusoid_table(out=tmp_path, shots=(5,), steps=25, seed=2)


@pytest.mark.parametrize(
    "settings",
    [{"shots": (7,)}, {"shots": ()}, {"steps": 0}, {"seed": -1}, {"jobs": 0}, {"out": ""}],
    ids=str,
)
def test_bad_settings_are_named_before_anything_is_done(settings, tmp_path):
    with pytest.raises(SettingError, match=next(iter(settings))):
        sinusoid_table(**{"out": tmp_path / "out", **settings})
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="file cannot be made"):
        sinusoid_table(out=tmp_path / "file", steps=1)


def test_an_error_in_one_training_stops_the_others(tmp_path):
    (tmp_path / "maml-5-shots").write_text("in the way")
    with pytest.raises(RunError, match="maml-5-shots failed"):
        sinusoid_table(out=tmp_path, shots=(5,), steps=10_000_000, jobs=2)


def test_a_training_process_is_limited_to_one_thread(tmp_path):
    code = """
        import json, os, subprocess, sys
        from pathlib import Path
        real = subprocess.Popen
        def popen(command, **options):
            print(json.dumps([options["env"].get("OPENBLAS_NUM_THREADS"), options["env"].get("PATH")]))
            return real(command, **options)
        subprocess.Popen = popen
        from mltk import reproduce
        reproduce.sinusoid_table(out=sys.argv[1], shots=(5,), steps=1, jobs=1)
    """
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line[8:] for line in code.splitlines()), str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    environments = [json.loads(line) for line in done.stdout.splitlines()]
    assert [threads for threads, _ in environments] == ["1", "1"]
    assert all(path for _, path in environments)
    assert reproduce.ONE_THREAD["OMP_NUM_THREADS"] == "1"
