"""Files are replaced whole: what is written is on the disk before it takes the place of the old."""

import os
import stat

import numpy as np
import pytest

from mltk.files import replace_whole, stand_also_at
from mltk.training.run_folder import Checkpoint, RunFolder


@pytest.fixture
def order(monkeypatch):
    """What is synced and replaced, in order, with the size that a file has then."""
    found = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(number):
        status = os.fstat(number)
        found.append(("sync folder",) if stat.S_ISDIR(status.st_mode) else ("sync", status.st_size))
        fsync(number)

    def watched_replace(old, new):
        found.append(("replace", os.path.basename(new)))
        replace(old, new)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    return found


def test_a_file_is_synced_before_it_takes_the_place_of_the_old_and_its_name_after(tmp_path, order):
    (tmp_path / "x").write_bytes(b"old")
    replace_whole(tmp_path / "x", lambda file: file.write(b"content"))
    assert (tmp_path / "x").read_bytes() == b"content"
    assert order[:2] == [("sync", 7), ("replace", "x")]
    assert order[2:] in ([("sync folder",)], [])  # Windows has no folders that can be synced
    assert os.name == "nt" or order[2:]


def test_the_logged_steps_are_on_the_disk_before_the_checkpoint(tmp_path, order):
    folder = RunFolder(tmp_path)
    folder.append_metrics({"step": 1, "loss": 0.5, "seconds": 0.0})
    size = folder.metrics_path.stat().st_size
    folder.write_checkpoint(Checkpoint(1, {}, {}, {}, np.zeros(())))
    assert order[0] == ("sync", size)
    assert [step[0] for step in order[1:3]] == ["sync", "replace"]


@pytest.mark.parametrize("links", [True, False])
def test_a_second_name_keeps_what_the_first_had(links, tmp_path, monkeypatch):
    first, second = tmp_path / "first", tmp_path / "second"

    def refuse(*given, **named):
        raise OSError

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    first.write_bytes(b"one")
    second.write_bytes(b"old")
    for _ in range(2):  # again, when both are the same file
        stand_also_at(first, second)
        assert second.read_bytes() == b"one"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]
    replace_whole(first, lambda file: file.write(b"two"))
    assert (first.read_bytes(), second.read_bytes()) == (b"two", b"one")
