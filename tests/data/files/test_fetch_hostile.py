"""Downloads from hostile servers, into hostile folders: ends in bytes and in time, no way to other files."""

import contextlib
import dataclasses
import itertools
import json
import os
from types import SimpleNamespace

import pytest
from loopback_server import CONTENT, HASTE, OTHER, answer, get, visible

from mltk.data.files import downloads
from mltk.errors import DownloadError, StorageError


def notes_of(server, **changes):
    return json.dumps({"url": server.url, "etag": '"1"', "modified": None, "total": len(CONTENT)} | changes)


def test_right_notes_are_used(server, tmp_path):
    (tmp_path / "file.zip.part").write_bytes(CONTENT[:50_000])
    (tmp_path / "file.zip.part.json").write_text(notes_of(server))
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == ["bytes=50000-"]


@pytest.mark.parametrize(
    "notes",
    [
        "",
        "{",
        "[]",
        '{"url": 1}',
        "\udcff",
        "[" * 100_000,
        {"etag": 5},
        {"etag": 0},
        {"etag": '"1"\r\nRange: bytes=0-'},
        {"etag": '"\u20ac"'},
        {"etag": '"' + "1" * 2000 + '"'},
        {"etag": None, "modified": ["Sat"]},
        {"etag": None, "modified": " Sat"},
        {"total": -1},
        {"total": "200000"},
        {"total": True},
        {"total": 10**400},
        {"total": len(CONTENT) + 1},
        {"unknown": 1},
    ],
)
def test_damaged_notes_only_cost_a_new_start(notes, server, tmp_path):
    (tmp_path / "file.zip.part").write_bytes(OTHER[:50_000])
    text = notes_of(server, **notes) if isinstance(notes, dict) else notes
    (tmp_path / "file.zip.part.json").write_text(text, errors="surrogateescape")
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert visible(tmp_path) == ["file.zip"]


def endless(handler, *, chunked=False, **headers):
    """Send content without a length and without an end."""
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    for name, value in {"Connection": "close", **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    piece = bytes(10_000)
    with contextlib.suppress(OSError):
        while not handler.server.over.is_set():
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            handler.server.sent += len(piece)


@pytest.fixture
def largest(tmp_path, monkeypatch):
    """The most that has been in the partial file."""
    found = [0]

    class Watched:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, chunk):
            written = self.file.write(chunk)
            found[0] = max(found[0], self.file.tell())
            return written

    for name in ("begin", "open_to_append"):
        opened = getattr(downloads, name)
        monkeypatch.setattr(downloads, name, lambda *a, opened=opened, **k: Watched(opened(*a, **k)))
    return found


@pytest.mark.parametrize(
    "how",
    [endless, lambda handler: endless(handler, chunked=True, **{"Transfer-Encoding": "chunked"})],
    ids=["plain", "chunks"],
)
def test_a_response_without_an_end_is_left_at_the_known_size(how, server, tmp_path, largest):
    server.script = [how] * 10
    with pytest.raises(DownloadError, match="sends more than it should"):
        get(server, tmp_path)
    assert len(server.asked) == HASTE.attempts
    assert largest[0] <= len(CONTENT)
    assert visible(tmp_path) == []
    server.script = []
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_file_of_unknown_size_has_a_largest_one(server, tmp_path, monkeypatch, largest):
    monkeypatch.setattr(downloads, "LARGEST", 150_000)
    server.script = [endless]
    with pytest.raises(DownloadError, match="more than 150000 bytes of a file of unknown size"):
        get(server, tmp_path, size=None)
    assert len(server.asked) == 1
    assert largest[0] <= 150_000
    assert visible(tmp_path) == []


@pytest.mark.parametrize("size", [len(CONTENT) - 1, None])
def test_a_server_that_offers_more_is_refused_before_it_sends(size, server, tmp_path, monkeypatch, largest):
    monkeypatch.setattr(downloads, "LARGEST", len(CONTENT) - 1)
    with pytest.raises(DownloadError, match=r"offers 200000 bytes; expected .*199999"):
        get(server, tmp_path, size=size)
    assert largest[0] == 0
    assert visible(tmp_path) == []


@pytest.mark.parametrize("length", ["9" * 5000, "-1", "1_0", "٣", "nonsense"])
def test_a_length_that_is_none_is_not_heeded(length, server, tmp_path):
    server.script = [lambda handler: answer(handler, 200, CONTENT, Content_Length=quoted(length))]
    assert get(server, tmp_path).read_bytes() == CONTENT


def quoted(text):
    return text.encode("utf-8").decode("latin-1")


def test_a_download_has_a_limit_in_time(server, tmp_path, monkeypatch):
    """A server may send something now and then for ever."""

    def drip(handler):
        with contextlib.suppress(OSError):
            answer(handler, 200, CONTENT, pace=0.01, ETag='"1"', Content_Length=str(len(CONTENT)))

    minutes = itertools.count(step=60.0)
    server.script = [drip]
    with monkeypatch.context() as patch:
        patch.setattr(downloads, "time", SimpleNamespace(monotonic=lambda: next(minutes), sleep=None))
        with pytest.raises(DownloadError, match=r"not here after 600 s.*kept"):
            get(server, tmp_path, patience=dataclasses.replace(HASTE, total=600.0))
    kept = (tmp_path / "file.zip.part").stat().st_size
    assert 0 < kept < len(CONTENT)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={kept}-"]


def test_an_answer_that_never_begins_has_a_limit_in_time(server, tmp_path):
    def drip(handler):
        with contextlib.suppress(OSError):
            while not handler.server.over.wait(0.05):
                handler.wfile.write(b"H")
                handler.wfile.flush()

    server.script = [drip]
    with pytest.raises(DownloadError, match="not here after 1 s"):
        get(server, tmp_path, patience=dataclasses.replace(HASTE, total=1.0))


@pytest.mark.parametrize("name", ["file.zip.part", "file.zip.part.json"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "pipe"])
def test_what_stands_at_the_name_of_a_part_is_never_written_to(name, kind, server, tmp_path):
    precious, place = tmp_path / "elsewhere" / "precious", tmp_path / "data" / name
    for folder in (precious.parent, place.parent):
        folder.mkdir()
    (place.parent / "file.zip.part").write_bytes(CONTENT[:50_000])
    (place.parent / "file.zip.part.json").write_text(notes_of(server))
    place.unlink()
    precious.write_bytes(CONTENT[:50_000])
    if kind == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("this system has no pipes with names")
        os.mkfifo(place)
    elif kind == "hard link":
        place.hardlink_to(precious)
    else:
        place.symlink_to(precious if kind == "link" else precious.with_name("nowhere"))
    assert get(server, place.parent).read_bytes() == CONTENT
    assert precious.read_bytes() == CONTENT[:50_000]
    assert os.listdir(precious.parent) == ["precious"]
    assert visible(place.parent) == ["file.zip"]


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_lock_is_no_link_and_no_pipe(kind, server, tmp_path):
    place = tmp_path / ".file.zip.lock"
    if kind == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("this system has no pipes with names")
        os.mkfifo(place)
    else:
        place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(StorageError, match=f"it is a .*{kind}"):
        get(server, tmp_path)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file_at_the_place_of_a_file_is_refused(kind, server, tmp_path):
    place = tmp_path / "file.zip"
    if kind == "folder":
        place.mkdir()
    elif hasattr(os, "mkfifo"):
        os.mkfifo(place)
    else:
        pytest.skip("this system has no pipes with names")
    with pytest.raises(StorageError, match=r"file\.zip is in the way"):
        get(server, tmp_path)
    assert server.asked == []
    assert not place.is_file()
