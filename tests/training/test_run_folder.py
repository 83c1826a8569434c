"""Run folders: whole after any failure, safe against damage, and for one training at a time."""

import contextlib
import errno
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mltk.errors import RunError
from mltk.training.run_folder import Checkpoint, RunFolder


def checkpoint(step=7):
    rng = np.random.default_rng(step)
    return Checkpoint(
        step=step,
        params={"0.weight": rng.normal(size=(2, 3)), "lr": rng.normal(size=()).astype(np.float32)},
        optimizer={"step": np.asarray(step), "moments.mean": rng.normal(size=7)},
        rng=dict(rng.bit_generator.state),
        loss_sum=np.asarray(rng.normal()),
    )


def assert_same(found, expected):
    assert (found.step, found.rng) == (expected.step, expected.rng)
    for part in ("params", "optimizer"):
        assert getattr(found, part).keys() == getattr(expected, part).keys()
    pairs = zip(
        [*found.params.values(), *found.optimizer.values(), found.loss_sum],
        [*expected.params.values(), *expected.optimizer.values(), expected.loss_sum],
        strict=True,
    )
    for a, b in pairs:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_a_checkpoint_comes_back_exactly(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_checkpoint(checkpoint())
    assert_same(folder.read_checkpoint(), checkpoint())
    folder.write_checkpoint(checkpoint(8))
    assert_same(folder.read_checkpoint(), checkpoint(8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.npz", "metrics.jsonl"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("whole"))
    folder.write_checkpoint(checkpoint())
    return folder.checkpoint_path.read_bytes()


@settings(max_examples=50)
@given(where=st.floats(0, 1, exclude_max=True), what=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_checkpoint_is_refused_or_reads_as_written(tmp_path, whole, where, what, cut):
    position = int(where * len(whole))
    damaged = bytearray(whole)
    damaged[position] ^= what
    folder = RunFolder(tmp_path)
    folder.checkpoint_path.write_bytes(whole[:position] if cut else damaged)
    try:
        found = folder.read_checkpoint()
    except RunError as error:
        named = str(error)
    else:
        # A byte that the archive does not use, such as a time stamp.
        assert not cut
        assert_same(found, checkpoint())
        return
    assert str(folder.checkpoint_path) in named


def test_a_damaged_directory_loses_no_array_of_a_checkpoint(tmp_path, whole):
    folder = RunFolder(tmp_path)
    accepted = 0
    for position in range(whole.index(b"PK\x01\x02"), len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        folder.checkpoint_path.write_bytes(damaged)
        with contextlib.suppress(RunError):
            assert_same(folder.read_checkpoint(), checkpoint())
            accepted += 1
    assert accepted  # time stamps


class Trap:
    """Unpickling this creates a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("kind", ["pickle", "npy", "object array", "foreign", "empty", "text"])
def test_foreign_files_are_refused_and_never_unpickled(tmp_path, kind):
    folder, sprung = RunFolder(tmp_path), tmp_path / "sprung"
    trap = np.empty(1, dtype=object)
    trap[0] = Trap(sprung)
    with folder.checkpoint_path.open("wb") as file:
        if kind == "pickle":
            pickle.dump(Trap(sprung), file)
        elif kind == "npy":
            np.save(file, np.zeros(3))
        elif kind == "object array":
            np.savez(file, format=np.asarray(1), step=trap, rng=trap, loss_sum=trap)
        elif kind == "foreign":
            np.savez(file, images=np.zeros(3))
        elif kind == "text":
            file.write(b"hello")
    with pytest.raises(RunError, match=r"checkpoint\.npz is damaged or not a checkpoint"):
        folder.read_checkpoint()
    assert not sprung.exists()


def test_missing_files_are_named(tmp_path):
    folder = RunFolder(tmp_path / "none")
    with pytest.raises(RunError, match=r"checkpoint\.npz is missing"):
        folder.read_checkpoint()
    with pytest.raises(RunError, match=r"config\.toml is missing"):
        folder.read_config()


@pytest.mark.parametrize("wrong", [{"step": -1}, {"step": 2.5}, {"step": [1, 2]}, {"loss_sum": [1.0, 2.0]}])
def test_a_checkpoint_with_impossible_numbers_is_refused(tmp_path, wrong):
    folder = RunFolder(tmp_path)
    folder.write_checkpoint(checkpoint())
    with np.load(folder.checkpoint_path) as arrays:
        changed = dict(arrays) | {name: np.asarray(value) for name, value in wrong.items()}
    np.savez(folder.checkpoint_path, **changed)
    with pytest.raises(RunError, match=r"checkpoint\.npz is damaged or not a checkpoint"):
        folder.read_checkpoint()


@pytest.mark.parametrize("damage", [b"steps = ", b"\xff\xfe", b"\x00"])
def test_a_damaged_configuration_is_named(tmp_path, damage):
    folder = RunFolder(tmp_path)
    folder.config_path.write_bytes(damage)
    with pytest.raises(RunError, match=r"config\.toml is damaged"):
        folder.read_config()


def test_a_line_cut_short_is_left_out_and_other_damage_named(tmp_path):
    folder = RunFolder(tmp_path)
    lines = [{"step": step, "loss": 0.1 * step, "seconds": 1.0} for step in (1, 2)]
    for line in lines:
        folder.append_metrics(line)
    assert folder.read_metrics() == lines
    with folder.metrics_path.open("a") as file:
        file.write('{"step": 3, "lo')
    assert folder.read_metrics() == lines
    with folder.metrics_path.open("a") as file:
        file.write("\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged"):
        folder.read_metrics()
    for damaged in ('{"step": 3}', '{"step": "3", "loss": 1.0, "seconds": 1.0}', "[3]"):
        folder.metrics_path.write_text(f"{damaged}\n")
        with pytest.raises(RunError, match=r"metrics\.jsonl is damaged"):
            folder.read_metrics()


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES])
def test_a_failed_write_leaves_the_checkpoint_before(tmp_path, monkeypatch, function, code):
    folder = RunFolder(tmp_path)
    folder.write_checkpoint(checkpoint(7))

    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(RunError, match=os.strerror(code)):
            folder.write_checkpoint(checkpoint(8))
    assert_same(folder.read_checkpoint(), checkpoint(7))
    assert not list(tmp_path.glob("*.tmp"))


def test_a_full_disk_in_the_middle_of_a_write_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.write_checkpoint(checkpoint(7))
    savez = np.savez

    def fill(file, **arrays):
        savez(file, **dict(list(arrays.items())[:2]))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", fill)
    with pytest.raises(RunError, match=os.strerror(errno.ENOSPC)):
        folder.write_checkpoint(checkpoint(8))
    assert_same(folder.read_checkpoint(), checkpoint(7))


def test_one_training_at_a_time(tmp_path):
    folder = RunFolder(tmp_path / "new" / "run")
    with folder.locked(), pytest.raises(RunError, match="in use by another training"), folder.locked():
        pass
    with folder.locked():
        pass


def test_the_lock_ends_with_its_process(tmp_path):
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from mltk.training.run_folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).locked():\n"
        "    print('locked', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(RunError, match="in use"), RunFolder(tmp_path).locked():
            pass
    finally:
        process.kill()
        process.communicate()
    with RunFolder(tmp_path).locked():
        pass


def test_a_file_in_the_folders_place_is_named(tmp_path):
    place = tmp_path / "file"
    place.write_text("")
    with pytest.raises(RunError, match="file cannot be used as a run folder"), RunFolder(place).locked():
        pass
