"""A run folder is taken in one step, whoever else wants it, and by what can be used as one."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

import mltk
from mltk import optim
from mltk.cli import app
from mltk.errors import DivergedError, RunError
from mltk.reproduce import sinusoid_table
from mltk.training.run_folder import WRITTEN, RunFolder, first_free

TASKS = mltk.data.Sinusoid(shots=5, queries=5)
NUMPY = mltk.backend("numpy")
AT_ONCE = """
import sys
from mltk.cli import main
print("ready", flush=True)
sys.stdin.readline()
main()
"""


def test_trainings_that_start_together_have_a_folder_each(tmp_path):
    words = ["train", "maml", "--data", "sinusoid", "--steps", "2"]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", AT_ONCE, *words, "--seed", str(seed)],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(5)
    ]
    for process in started:
        assert process.stdout.readline() == "ready\n"
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    folders = [RunFolder(path) for path in (tmp_path / "runs").iterdir()]
    assert {folder.path.name for folder in folders} == {
        "maml-sinusoid",
        *(f"maml-sinusoid-{number}" for number in range(2, 6)),
    }
    assert {folder.read_config()["seed"] for folder in folders} == set(range(5))


def test_a_folder_in_use_is_passed_over_and_a_failed_one_is_not(tmp_path):
    with first_free(tmp_path, "run") as first, first_free(tmp_path, "run") as second:
        assert (first.path.name, second.path.name) == ("run", "run-2")
        first.begin({"steps": 1, "log_every": 1, "algorithm": {}})
    with first_free(tmp_path, "run") as again:
        assert again.path.name == "run"


def test_a_folder_that_nothing_was_written_into_is_removed_if_it_was_made_for_it(tmp_path):
    with RunFolder(tmp_path / "new").locked():
        assert (tmp_path / "new").is_dir()
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with RunFolder(tmp_path / "old").locked():
        pass
    assert (tmp_path / "old").is_dir()


def test_a_lock_on_a_folder_that_another_has_removed_is_taken_anew(tmp_path):
    """Many processes that take and leave one folder never hold it at the same time."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from mltk.errors import RunError\n"
        "from mltk.training.run_folder import WRITTEN, RunFolder\n"
        "folder, held = RunFolder(Path(sys.argv[1])), 0\n"
        "while held < 200:\n"
        "    try:\n"
        "        with folder.locked():\n"
        "            held += 1\n"
        "            mark = folder.path / 'mark'\n"
        "            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))\n"  # fails if two are inside
        "            mark.unlink()\n"
        "    except RunError as error:\n"
        "        assert 'in use' in str(error), error\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()


@dataclass(frozen=True)
class Failing:
    """A learner that diverges in its second step."""

    inner: object = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")

    def init(self, backend, seed):
        return self.inner.init(backend, seed)

    def value_and_grad(self, meta_params, episode):
        value, grads = self.inner.value_and_grad(meta_params, episode)
        return value * float("nan"), grads


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_that_failed_before_its_first_checkpoint_does_not_block_its_folder(resume, tmp_path):
    options = {"backend": NUMPY, "steps": 10, "out": tmp_path / "run"}
    with pytest.raises(DivergedError):
        mltk.train(Failing(), TASKS, **options)
    RunFolder(tmp_path / "run").append_metrics({"step": 1, "loss": 1.0, "seconds": 0.0})
    run = mltk.train(Failing().inner, TASKS, optimizer=optim.SGD(0.1), resume=resume, **options)
    straight = mltk.train(Failing().inner, TASKS, optimizer=optim.SGD(0.1), **{**options, "out": None})
    assert [line["loss"] for line in run.history] == [line["loss"] for line in straight.history]
    saved = mltk.load_run(tmp_path / "run")
    assert saved.run.history == run.history
    with pytest.raises(RunError, match="already holds a run"):
        mltk.train(Failing().inner, TASKS, **options)


@pytest.mark.parametrize("name", ["config.toml", *WRITTEN])
@pytest.mark.parametrize("content", ["[tool]\nname = 1\n", "not = = toml"])
def test_files_that_no_training_has_written_are_never_overwritten(name, content, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(RunError, match="already holds"):
        mltk.train(Failing().inner, TASKS, backend=NUMPY, steps=2, out=tmp_path)
    assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize(
    "words",
    [
        ("maml", "--data", "sinusoid"),
        ("stochastic-maml", "--data", "navigation"),
        ("prototypical", "--data", "glyphs", "--ways", 5),
    ],
)
def test_what_stands_in_a_run_folder_is_known(words, tmp_path):
    command = ("train", *words, "--steps", 1, "--meta-batch", 1, "--out", tmp_path / "run")
    assert CliRunner().invoke(app, [str(word) for word in command]).exit_code == 0
    known = {"config.toml", "checkpoint.npz", ".lock", *WRITTEN}
    assert set(os.listdir(tmp_path / "run")) <= known


@pytest.mark.parametrize("place", ["n\0ul", "x" * 300, "file", "file/below", "/proc/nowhere/run"])
def test_a_place_that_cannot_be_a_folder_is_named_before_any_work(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("content")
    with pytest.raises(RunError, match=r"cannot be used as a run folder: \S+"):
        mltk.train(Failing().inner, TASKS, backend=NUMPY, steps=2, out=place)
    if "\0" not in place:  # no command line can hold that
        words = ["train", "maml", "--data", "sinusoid", "--steps", "2", "--out", place]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 1
        assert re.fullmatch("error: .* cannot be used as a run folder: .*\n", result.output)
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "content"


@pytest.mark.parametrize("words", [["reproduce", "sinusoid-table"], ["oracle", "vectors"]], ids=" ".join)
def test_other_commands_name_such_a_place_too(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [*words, "--out", "x" * 300])
    assert result.exit_code == 1
    assert re.fullmatch("error: x+.*File name too long\n", result.output)
    with pytest.raises(RunError, match="cannot be made"):
        sinusoid_table(out="n\0ul", shots=(5,), steps=1)
