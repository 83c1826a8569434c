"""What comes from outside: one error for whatever is wrong, sizes before memory, no links, no waiting."""

import json
import os
import signal
import stat
import subprocess
import sys

import numpy as np
import pytest

from mltk import files
from mltk.data.files.cache import read_cache, write_cache
from mltk.errors import DataError, MltkError, RunError
from mltk.messages import MessageError, from_line
from mltk.oracle import vectors
from mltk.oracle.candidate.calling import call
from mltk.oracle.candidate.request import Request, unpack_outcome
from mltk.outside import DEEPEST, LONGEST, check_depth, read_bytes, read_json, reading
from mltk.training.run_folder import Checkpoint, RunFolder

pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")


@pytest.fixture
def in_time():
    """An error instead of waiting for the other end of a pipe."""
    if hasattr(signal, "alarm"):
        signal.alarm(60)
        yield
        signal.alarm(0)
    else:
        yield


@pytest.fixture(params=["as here", "without O_NOFOLLOW"])
def flags(request, monkeypatch):
    if request.param != "as here":
        monkeypatch.setattr(files, "_NO_LINKS", 0)


def checkpoint(**changes):
    state = {
        "step": 7,
        "params": {"w": np.ones(3)},
        "optimizer": {"step": np.asarray(7)},
        "rng": dict(np.random.default_rng(0).bit_generator.state),
        "loss_sum": np.asarray(0.5),
    }
    return Checkpoint(**state | changes)


def arrays_of(folder):
    with np.load(folder.checkpoint_path) as arrays:
        return dict(arrays)


@pytest.mark.parametrize(
    "problem",
    [
        ValueError("no"),
        KeyError("no"),
        RecursionError("no"),
        OverflowError("no"),
        SystemError("no"),
        OSError("no number"),
        PermissionError(13, "Permission denied"),
        FileNotFoundError(2, "No such file"),
        AssertionError(),
        MltkError("says nothing of the file"),
        ValueError("no" * 10_000),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_whatever_fails_behind_the_door_names_the_file(problem):
    with pytest.raises(DataError, match=r"some/file\.npz ") as error, reading("some/file.npz", DataError):
        raise problem
    assert error.value.__cause__ is problem
    assert len(str(error.value)) < LONGEST + 100


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), SystemExit(3), MemoryError(), DataError("file: x")])
def test_what_is_not_the_fault_of_the_file_stays_what_it_is(problem):
    with pytest.raises(type(problem)) as error, reading("file", RunError):
        raise problem
    assert error.value is problem


def test_the_depth_of_what_is_read_is_limited():
    deep = json.loads("[" * DEEPEST + "]" * DEEPEST)
    check_depth(deep)
    for text in ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "[" * 200_000, '{"a":' * 100 + "1" + "}" * 100):
        with pytest.raises(ValueError, match=r"nested|Expecting"):
            read_json(text)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    (tmp_path / "file").write_bytes(bytes(100))
    assert read_bytes(tmp_path / "file", most=100) == bytes(100)
    with pytest.raises(ValueError, match="100 bytes; expected at most 99"):
        read_bytes(tmp_path / "file", most=99)


@pipes
def test_pipes_are_refused_at_once_by_every_reader(tmp_path, in_time):
    folder = RunFolder(tmp_path)
    for path in (folder.config_path, folder.metrics_path, folder.checkpoint_path):
        os.mkfifo(path)
    for read in (folder.read_config, folder.read_metrics, folder.read_checkpoint):
        with pytest.raises(RunError, match=f"{tmp_path}.* cannot be read: it is a pipe"):
            read()
    with pytest.raises(RunError, match="cannot be written: it is a pipe"):
        folder.append_metrics({"step": 1})
    with pytest.raises(DataError, match="it is a pipe"):
        read_cache(folder.checkpoint_path, {})
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(RunError, match="cannot be used as a run folder: it is a pipe"), folder.locked():
        pass


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="this system has no /dev/zero")
def test_devices_are_refused(tmp_path):
    folder = RunFolder(tmp_path)
    folder.config_path.symlink_to("/dev/zero")
    with pytest.raises(RunError, match="it is a device"):
        folder.read_config()


def test_writing_never_goes_through_a_link(tmp_path, flags):
    precious = tmp_path / "precious"
    precious.write_text("as it was")
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    for target in (precious, tmp_path / "nowhere"):
        for name in ("checkpoint.npz.tmp", "checkpoint.npz", "config.toml"):
            (folder.path / name).unlink(missing_ok=True)
            (folder.path / name).symlink_to(target)
        folder.write_checkpoint(checkpoint())
        folder.write_config({"steps": 3})
        assert folder.read_checkpoint().step == 7
        assert not folder.checkpoint_path.is_symlink()
        assert precious.read_text() == "as it was"
        assert not (tmp_path / "nowhere").exists()
        folder.metrics_path.unlink(missing_ok=True)
        folder.metrics_path.symlink_to(target)
        with pytest.raises(RunError, match=r"metrics\.jsonl cannot be written: it is a symbolic link"):
            folder.append_metrics({"step": 1, "loss": 1.0, "seconds": 1.0})
        folder.metrics_path.unlink()
    (folder.path / ".lock").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RunError, match="symbolic link"), folder.locked():
        pass
    assert not (tmp_path / "nowhere").exists()
    cache = tmp_path / "cache.npz"
    cache.symlink_to(precious)
    assert write_cache(cache, {"a": np.zeros(3)})
    assert precious.read_text() == "as it was"


def test_reading_goes_through_links(tmp_path):
    folder, link = RunFolder(tmp_path / "run"), tmp_path / "link"
    folder.path.mkdir()
    folder.write_checkpoint(checkpoint())
    link.mkdir()
    (link / "checkpoint.npz").symlink_to(folder.checkpoint_path)
    assert RunFolder(link).read_checkpoint().step == 7


def test_what_a_killed_write_leaves_is_removed_by_the_next_training(tmp_path):
    folder = RunFolder(tmp_path)
    left = tmp_path / ".checkpoint.npz.0123.tmp"
    left.write_bytes(b"half")
    with folder.locked():
        assert not left.exists()


def test_the_permissions_of_new_files_are_the_usual_ones(tmp_path):
    (tmp_path / "usual").write_text("")
    folder = RunFolder(tmp_path)
    folder.write_checkpoint(checkpoint())
    modes = {
        stat.S_IMODE(path.stat().st_mode)
        for path in (tmp_path / "usual", folder.checkpoint_path, folder.metrics_path)
    }
    assert len(modes) == 1


def test_a_checkpoint_takes_no_more_memory_than_room_on_the_disk(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_checkpoint(checkpoint())
    bomb = arrays_of(folder) | {"params.w": np.zeros(1 << 20)}
    np.savez_compressed(folder.checkpoint_path, **bomb)
    with pytest.raises(RunError, match=r"expands to .* expected at most 1048576"):
        folder.read_checkpoint()
    np.savez(folder.checkpoint_path, **bomb)
    assert folder.read_checkpoint().params["w"].shape == (1 << 20,)


@pytest.mark.parametrize(
    "leaf",
    [np.ones(3, bool), np.asarray(["a"]), np.ones(3, complex), np.asarray([np.nan]), np.asarray(np.inf)],
    ids=["bool", "text", "complex", "nan", "infinite"],
)
def test_a_checkpoint_holds_finite_numbers_alone(leaf, tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_checkpoint(checkpoint())
    np.savez(folder.checkpoint_path, **arrays_of(folder) | {"params.w": leaf})
    with pytest.raises(RunError, match=r"checkpoint\.npz is damaged or not a checkpoint"):
        folder.read_checkpoint()


def test_a_character_that_does_not_exist_is_damage(tmp_path):
    names = np.asarray([0x110000, ord("a")], np.uint32).view("<U1")
    np.savez_compressed(tmp_path / "cache.npz", names=names)
    with pytest.raises(DataError, match=r"cache\.npz .* names has a character that does not exist"):
        read_cache(tmp_path / "cache.npz", {"names": ("U", (None,))})


@pytest.mark.parametrize(
    "number", ["1" + "0" * 400, "1" + "0" * 5000, "NaN", "Infinity", "true", "null", "-1"]
)
@pytest.mark.parametrize("name", ["step", "loss", "seconds"])
def test_numbers_of_the_metrics_are_finite(name, number, tmp_path):
    if (name, number) in {("loss", "-1"), ("seconds", "-1")}:
        pytest.skip("this is a number")
    folder = RunFolder(tmp_path)
    line = {"step": 1, "loss": 1.0, "seconds": 1.0}
    folder.metrics_path.write_text(json.dumps(line | {name: "X"}).replace('"X"', number) + "\n")
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged"):
        folder.read_metrics()


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 1000 + "]" * 1000,
        "a." * 20_000 + "b = 1",
        "[" + "a . " * 20_000 + "b]",
        "a = " + "1" * 5000,
        "x = {a=" * 100 + "1" + "}" * 100,
        '"a".' * 100 + '"b" = 1',
        "#" * ((1 << 20) + 1),
    ],
    ids=["lists", "keys", "headers", "digits", "tables", "quoted keys", "size"],
)
def test_a_configuration_of_no_sensible_form_is_refused(text, tmp_path):
    folder = RunFolder(tmp_path)
    folder.config_path.write_text(text)
    with pytest.raises(RunError, match=r"config\.toml is damaged"):
        folder.read_config()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "[" * 100_000 + "]" * 100_000,
        lambda text: "[1]",
        lambda text: text.replace('"condition": 1.0', '"condition": "x"'),
        lambda text: text.replace('"format": 1', '"format": 2'),
        lambda text: text.replace('"inputs": {', '"inputs": {"deep": ' + "[" * 70 + "]" * 70 + ", "),
        lambda text: text.replace('"inputs": {', '"inputs": {"huge": [' + "9" * 30 + "], "),
        lambda text: text.replace('"inputs": {', '"inputs": {"ragged": [[1], [1, 2]], '),
        lambda text: text.replace('"kind": "valid"', '"kind": null'),
    ],
)
def test_vectors_that_are_none_are_refused(change):
    text = json.dumps(
        {
            "format": 1,
            "cases": [
                {
                    "name": "a",
                    "kind": "valid",
                    "comment": "c",
                    "condition": 1.0,
                    "settings": {},
                    "inputs": {"x": [1.0, "NaN"]},
                    "expected": {"y": [1]},
                }
            ],
        }
    )
    (case,) = vectors.read(text)
    np.testing.assert_array_equal(case.inputs["x"], [1.0, np.nan])
    with pytest.raises(vectors.VectorError, match="their file is no file of test vectors"):
        vectors.read(change(text), "their file")


@pytest.mark.parametrize(
    "line", [b"[" * 100_000, b"\xff", b"1", b"", b"nonsense", b'{"a": ' * 70 + b"1" + b"}" * 70]
)
def test_a_line_that_is_no_message_is_said_to_be_none(line):
    with pytest.raises(MessageError):
        from_line(line + b"\n")


@pytest.mark.parametrize(
    "change",
    [
        {"outputs": None, "problem": [1, 2]},
        {"outputs": 1},
        {"outputs": {"a": {"dtype": "O", "shape": [1], "bytes": ""}}},
        {"outputs": {"a": {"dtype": "<f8", "shape": [10**12], "bytes": ""}}},
        {"changed": [1]},
        {"changed": None},
    ],
)
def test_an_outcome_of_no_sensible_form_is_said_to_be_none(change):
    with pytest.raises(MessageError):
        unpack_outcome({"outputs": {}, "problem": None, "changed": []} | change)


class Hostile:
    """Fails in its own way whatever is asked of it."""

    def __getattribute__(self, name):
        raise LookupError(name)


@pytest.mark.parametrize(
    "value",
    [
        lambda: 10**400,
        Hostile,
        lambda: {"loss": Hostile()},
        lambda: {Hostile(): 1},
        lambda: {"loss": 10**400},
    ],
)
def test_whatever_a_candidate_returns_is_a_problem_and_no_error(value):
    asked = Request("maml", {}, {}, ("loss",), {"loss": []})
    outcome = call(lambda *_: value(), asked, arrays="numpy", dtype="float64", folder=None)
    assert outcome.outputs is None
    assert outcome.problem.kind in {"malformed", "wrong-names", "wrong-shapes"}


@pipes
def test_a_pipe_or_device_is_never_replaced_by_a_file(tmp_path):
    folder = RunFolder(tmp_path)
    os.mkfifo(folder.checkpoint_path)
    with pytest.raises(RunError, match="cannot be written: it is a pipe"):
        folder.write_checkpoint(checkpoint())
    assert stat.S_ISFIFO(folder.checkpoint_path.stat().st_mode)
    assert not write_cache(folder.checkpoint_path, {"a": np.zeros(3)})
    assert stat.S_ISFIFO(folder.checkpoint_path.stat().st_mode)


def test_a_line_of_the_metrics_has_a_limit(tmp_path):
    folder = RunFolder(tmp_path)
    folder.metrics_path.write_text("[" + "[]," * 50_000 + "1]\n")
    with pytest.raises(RunError, match="a line has 150003 characters"):
        folder.read_metrics()


def test_without_fcntl_there_is_nobody_to_lock_against(tmp_path):
    code = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from pathlib import Path\n"
        "from mltk.training.run_folder import RunFolder\n"
        "folder = RunFolder(Path(sys.argv[1]))\n"
        "with folder.locked():\n"
        "    folder.write_config({'steps': 3})\n"
        "print(folder.read_config())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.stdout == "{'steps': 3}\n", done.stderr
