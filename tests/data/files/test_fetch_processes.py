"""Downloads by several processes, of which some are killed or limited."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest
from loopback_server import CONTENT, get, visible, worse

FETCH = """
import sys
from pathlib import Path
from mltk.data.files.downloads import Patience
from mltk.data.files.fetch import fetch_file
from mltk.data.files.registry import RemoteFile
url, md5, folder = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
fetch_file(RemoteFile("file", url, md5, None, "tests"), Path(folder), patience=Patience(backoff=0.01))
"""


@pytest.fixture
def process(server, tmp_path):
    """Start a process that fetches the file once it gets a line."""
    started = []

    def start(before=""):
        words = [sys.executable, "-c", before + FETCH, server.url, hashlib.md5(CONTENT).hexdigest(), tmp_path]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        started.append(subprocess.Popen(words, text=True, **pipes))
        return started[-1]

    yield start
    for child in started:
        child.kill()
        child.communicate()


def go(*children):
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()


def wait_for(condition):
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until, "it never happened"
        time.sleep(0.01)


def test_two_processes_at_once_download_once(server, process, tmp_path):
    server.script = [worse(pace=0.03)] * 2
    children = process(), process()
    go(*children)
    said = [child.communicate(timeout=30)[1] for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    assert (tmp_path / "file.zip").read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert sum("another process is downloading it" in text for text in said) == 1
    assert all(line.startswith("file.zip: ") for text in said for line in text.splitlines())  # not pooch's


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_a_killed_download_leaves_a_part_that_the_next_one_continues(server, process, tmp_path):
    server.script = [worse(stop=100_000, hang=True)]
    child = process()
    go(child)
    part = tmp_path / "file.zip.part"
    wait_for(lambda: part.exists() and part.stat().st_size > 50_000)
    child.kill()
    child.wait()
    kept = part.stat().st_size
    assert visible(tmp_path) == ["file.zip.part", "file.zip.part.json"]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges[1] == f"bytes={kept}-"
    assert visible(tmp_path) == ["file.zip"]


def test_who_waits_for_a_killed_process_takes_over(server, process, tmp_path):
    server.script = [worse(stop=100_000, hang=True)]
    first, second = process(), process()
    go(first)
    wait_for(lambda: (tmp_path / "file.zip.part").exists())
    go(second)
    assert "another process is downloading it" in second.stderr.readline()
    first.kill()
    said = second.communicate(timeout=30)[1]
    assert second.returncode == 0, said
    assert (tmp_path / "file.zip").read_bytes() == CONTENT


def test_a_limit_of_the_system_is_an_error_and_not_the_end(server, process, tmp_path):
    resource = pytest.importorskip("resource")
    limit = f"import resource; resource.setrlimit({resource.RLIMIT_FSIZE}, (70_000, 70_000))\n"
    child = process(limit)
    go(child)
    said = child.communicate(timeout=30)[1]
    assert "StorageError" in said
    assert os.strerror(errno.EFBIG) in said
    assert (tmp_path / "file.zip.part").read_bytes() == CONTENT[:70_000]
