"""Data files: where they are, what the registry says of them, and what a download tells meanwhile."""

import contextlib
import hashlib
import os
import pty
import re
import sys
import threading
from pathlib import Path

import pytest
from loopback_server import HASTE, get, refuse, remote, worse

from mltk.data.files import registry
from mltk.data.files.fetch import absent, data_home, fetch, fetch_file, find, present
from mltk.data.files.registry import FILES, look_up
from mltk.errors import AbsentDataError, SettingError
from mltk.progress import ByteLines, downloading, in_bytes


def test_the_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("MLTK_DATA", str(tmp_path))
    assert data_home() == tmp_path
    monkeypatch.setenv("MLTK_DATA", "~/pictures")
    assert data_home() == Path.home() / "pictures"
    for unset in (lambda: monkeypatch.setenv("MLTK_DATA", ""), lambda: monkeypatch.delenv("MLTK_DATA")):
        unset()
        assert data_home().is_absolute()
        assert "mltk" in data_home().parts


def test_files_go_by_name(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MLTK_DATA", str(tmp_path))
    monkeypatch.setitem(registry.FILES, "file", remote(server, cache="file.npz"))
    assert find("file") is None
    assert present("file") is None
    (tmp_path / "file.npz").touch()
    assert find("file") is None
    assert present("file") == tmp_path / "file.npz"
    assert fetch("file", progress=False) == tmp_path / "file.zip"
    assert find("file") == present("file") == tmp_path / "file.zip"


@pytest.mark.parametrize("call", [look_up, find, fetch, absent, present])
def test_an_unknown_name_is_an_error_with_a_hint(call):
    with pytest.raises(
        SettingError, match=r"'omniglot-smal1'.*omniglot-runs.*did you mean 'omniglot-small1'"
    ):
        call("omniglot-smal1")


def test_the_error_about_absent_data_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("MLTK_DATA", str(tmp_path))
    error = absent("omniglot")
    assert isinstance(error, AbsentDataError)
    file = look_up("omniglot-background")
    for needed in ("mltk data get omniglot-background", file.url, file.md5, str(tmp_path / file.filename)):
        assert needed in str(error)


def test_the_registry_is_sound():
    filenames = [file.filename for file in FILES.values()]
    assert len(set(filenames)) == len(filenames)
    for name, file in FILES.items():
        assert file.name == name
        assert file.url.startswith("https://")
        assert file.md5 is None or re.fullmatch("[0-9a-f]{32}", file.md5)
    here = Path(os.environ.get("MLTK_DATA", ""))
    for file in FILES.values():
        if file.md5 and (here / file.filename).is_file():
            content = (here / file.filename).read_bytes()
            assert (hashlib.md5(content).hexdigest(), len(content)) == (file.md5, file.size)


def test_plain_lines_are_few_and_tell_the_progress(server, tmp_path, capsys):
    server.script = [worse(stop=100_000), refuse(500)]
    fetch_file(remote(server), tmp_path, patience=HASTE)
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("file.zip: ") for line in lines)
    tenths = [line.split()[1] for line in lines if "%" in line]
    assert tenths == sorted(set(tenths), key=int)
    assert tenths[-1] == "100"
    assert sum("next attempt in" in line for line in lines) == 2
    assert any("going on after 100 kB" in line for line in lines)


def test_plain_lines_without_a_length(capsys):
    lines = ByteLines("file", sys.stderr)
    for done in range(0, 25_000_001, 100_000):
        lines.advance(done, None)
    assert capsys.readouterr().err == "file: 10.0 MB\nfile: 20.0 MB\n"


def test_quiet_means_quiet(server, tmp_path, capfd):
    server.script = [worse(stop=100_000)]
    get(server, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_gets_a_bar():
    leader, follower = pty.openpty()
    shown = []

    def watch():
        with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
            while text := os.read(leader, 4096):
                shown.append(text)

    watching = threading.Thread(target=watch)
    watching.start()
    with os.fdopen(follower, "w") as file, downloading("file.zip", file) as report:
        report.say("[no] markup")
        report.advance(500, 1000)
        report.advance(1000, 1000)
    watching.join()
    os.close(leader)
    text = b"".join(shown).decode()
    assert "file.zip: [no] markup" in text
    assert "1.0/1.0 kB" in text


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (None, "?"),
        (7, "7 bytes"),
        (1000, "1.0 kB"),
        (9_464_212, "9.5 MB"),
        (168_513_733, "169 MB"),
        (2e9, "2.0 GB"),
    ],
)
def test_sizes_in_words(size, words):
    assert in_bytes(size) == words
