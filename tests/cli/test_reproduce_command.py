"""`mltk reproduce`: its table, and that its trainings end with it."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mltk.training.run_folder import RunFolder

MLTK = [sys.executable, "-c", "from mltk.cli import main; main()"]


@pytest.fixture
def reproducing(tmp_path):
    """A reproduction that trains, and the processes of its two trainings."""
    words = ["reproduce", "sinusoid-table", "--shots", "5", "--steps", "1000000", "--jobs", "2"]
    command = [*MLTK, *words, "--out", "table"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    lines = set()
    while len(lines) < 2:
        lines.add(process.stderr.readline().partition(": step")[0])
    assert lines == {"maml-5-shots", "meta-sgd-5-shots"}
    children = Path(f"/proc/{process.pid}/task").glob("*/children")
    yield process, [int(child) for file in children for child in file.read_text().split()]
    process.kill()


def assert_all_end(trainings, folder):
    """With a checkpoint each, though the first regular one is due later."""
    for _ in range(100):
        if not any(Path(f"/proc/{training}").exists() for training in trainings):
            break
        time.sleep(0.1)
    else:
        raise AssertionError(f"{trainings} go on")
    for name in ("maml-5-shots", "meta-sgd-5-shots"):
        assert RunFolder(folder / name).read_checkpoint().step > 0


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux tells the children of a process")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=str)
def test_a_signal_that_ends_reproduce_ends_its_trainings(number, status, reproducing, tmp_path):
    process, trainings = reproducing
    assert len(trainings) == 2
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == status
    assert "the same command continues the trainings in table" in said
    assert "Traceback" not in said
    assert_all_end(trainings, tmp_path / "table")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux tells the children of a process")
def test_trainings_end_with_a_reproduction_that_is_killed(reproducing, tmp_path):
    process, trainings = reproducing
    process.kill()
    assert_all_end(trainings, tmp_path / "table")


def test_reproduce_prints_a_row_and_says_when_it_was_trained_before(run):
    words = ["reproduce", "sinusoid-table", "--shots", "10", "--steps", 20, "--out", "table"]
    result = run(*words)
    assert result.exit_code == 0, result.output
    for figure in ("1.17 ± 0.16", "0.77 ± 0.11", "0.56 ± 0.08", "0.88 ± 0.14", "0.53 ± 0.09", "0.35 ± 0.06"):
        assert figure in result.output
    assert "1.13 ± 0.18" not in result.output
    assert "trained before" not in result.output
    assert {path.name for path in Path("table").iterdir()} == {
        "maml-10-shots",
        "meta-sgd-10-shots",
        "curves-10-shots.svg",
        "table.txt",
        "table.json",
    }
    again = run(*words)
    assert again.exit_code == 0
    assert again.output.count("was trained before") == 2
    assert Path("table/table.txt").read_text().splitlines()[3] in again.output
