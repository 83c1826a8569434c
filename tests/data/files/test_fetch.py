"""Downloads: what a server or a disk does, nothing is lost, mixed up or asked for twice."""

import dataclasses
import errno
import hashlib
import os
import shutil
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback_server import CONTENT, HASTE, OTHER, answer, get, refuse, remote, reset, visible, worse

from mltk.data.files import downloads
from mltk.data.files.downloads import Patience
from mltk.data.files.fetch import fetch_file
from mltk.errors import ChecksumError, DownloadError, StorageError


def test_a_file_is_fetched_once(server, tmp_path):
    folder = tmp_path / "not" / "there" / "yet"
    path = get(server, folder)
    assert path == folder / "file.zip"
    assert path.read_bytes() == CONTENT
    assert get(server, folder) == path
    assert len(server.asked) == 1
    assert visible(folder) == ["file.zip"]


def test_a_redirect_is_followed(server, tmp_path):
    server.script = [refuse(302, Location="/elsewhere")]
    assert get(server, tmp_path).read_bytes() == CONTENT


@settings(max_examples=15)
@given(stops=st.lists(st.integers(0, 150_000), max_size=4), data=st.data())
def test_whatever_breaks_off_no_byte_is_sent_twice(stops, data, running, tmp_path_factory):
    folder, server = tmp_path_factory.mktemp("data"), reset(running)
    validator = data.draw(
        st.sampled_from([{}, {"etag": None}, {"etag": 'W/"1"', "modified": "Sat, 01 Jan 2022 00:00:00 GMT"}])
    )
    server.script = [worse(stop=stop, **validator) for stop in [*stops, None]]
    assert get(server, folder, patience=Patience(attempts=6, backoff=0.0)).read_bytes() == CONTENT
    assert server.sent == len(CONTENT)
    assert visible(folder) == ["file.zip"]


def test_the_rest_is_asked_for_only_of_the_same_file(server, tmp_path):
    date = "Sat, 01 Jan 2022 00:00:00 GMT"
    for number, (how, expected) in enumerate(
        [
            ({"etag": '"x"', "modified": date}, '"x"'),
            ({"etag": 'W/"x"', "modified": date}, date),  # a weak tag does not promise equal bytes
            ({"etag": None, "modified": date}, date),
            ({"etag": None}, None),
        ]
    ):
        reset(server).script = [worse(stop=50_000, **how), worse(**how)]
        assert get(server, tmp_path / str(number)).read_bytes() == CONTENT
        assert server.ranges == [None, "bytes=50000-"]
        assert server.asked[1].get("If-Range") == expected


def test_without_tag_and_date_another_length_means_another_file(server, tmp_path):
    longer = OTHER + b"more"
    server.script = [worse(stop=50_000, etag=None), *[worse(etag=None, content=longer)] * 2]
    changes = {"md5": hashlib.md5(longer).hexdigest(), "size": len(longer)}
    assert get(server, tmp_path, **changes).read_bytes() == longer
    assert server.ranges == [None, "bytes=50000-", None]


def test_a_part_that_nothing_identifies_is_not_continued(server, tmp_path):
    def chunked(handler):
        answer(handler, 200, b"c350\r\n" + CONTENT[:50_000], Transfer_Encoding="chunked")

    server.script = [chunked, refuse(404)]
    with pytest.raises(DownloadError, match="404"):
        get(server, tmp_path, size=None)
    assert get(server, tmp_path, size=None).read_bytes() == CONTENT
    assert server.ranges == [None, None, None]


def test_a_known_length_shows_that_a_silent_server_broke_off(server, tmp_path):
    server.script = [worse(stop=50_000, length=False), worse(length=False)]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=50000-"]


@pytest.mark.parametrize(
    ("second", "requests"),
    [
        (worse(ranges=False), 2),
        (refuse(416, Content_Range="bytes */7"), 3),
        (lambda handler: answer(handler, 206, CONTENT, Content_Range="bytes 0-199999/200000"), 3),
        (
            lambda handler: answer(handler, 206, CONTENT[60_000:], Content_Range="bytes 60000-199999/200000"),
            3,
        ),
        (lambda handler: answer(handler, 206, CONTENT[50_000:]), 3),
        (lambda handler: answer(handler, 206, CONTENT[50_000:], Content_Range="nonsense"), 3),
        (lambda handler: answer(handler, 206, CONTENT, Content_Range="bytes 50000-199999/200000"), 3),
    ],
    ids=["ignored", "416", "from zero", "from elsewhere", "no range", "nonsense", "too much"],
)
def test_it_starts_anew_if_the_server_has_no_rest_to_give(second, requests, server, tmp_path):
    server.script = [worse(stop=50_000), second]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges[1] == "bytes=50000-"
    assert server.ranges[2:] == [None] * (requests - 2)


@pytest.mark.parametrize("faithful", [True, False])
@pytest.mark.parametrize(
    "seen", [{"etag": '"2"'}, {"etag": None, "modified": "Sun, 02 Jan 2022 00:00:00 GMT"}]
)
def test_parts_of_different_files_are_never_joined(seen, faithful, server, tmp_path):
    before = {"etag": '"1"'} if seen["etag"] else {"etag": None, "modified": "Sat, 01 Jan 2022 00:00:00 GMT"}
    server.script = [worse(stop=50_000, content=OTHER, **before)]
    server.script += [worse(faithful=faithful, **seen)] * 2
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges[1] == "bytes=50000-"


def test_a_part_of_another_address_is_not_used(server, tmp_path):
    server.script = [worse(stop=50_000, content=OTHER), *[refuse(404)]]
    with pytest.raises(DownloadError, match="404"):
        get(server, tmp_path, url=server.url.replace("folder", "old"))
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges[2] is None


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_troubles_pass(status, server, tmp_path):
    server.script = [refuse(status), refuse(status)]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 410, 204])
def test_a_refusal_is_final(status, server, tmp_path):
    server.script = [refuse(status)]
    with pytest.raises(DownloadError, match=str(status)) as error:
        get(server, tmp_path)
    assert len(server.asked) == 1
    assert server.url in str(error.value)


def test_redirects_in_a_circle_are_final(server, tmp_path):
    server.script = [refuse(302, Location=server.url)] * 100
    with pytest.raises(DownloadError, match="redirect"):
        get(server, tmp_path)


def test_it_gives_up_and_tells_all_that_helps(server, tmp_path):
    server.script = [refuse(503)] * 10
    with pytest.raises(DownloadError) as error:
        get(server, tmp_path)
    assert len(server.asked) == HASTE.attempts
    for needed in ("503", server.url, hashlib.md5(CONTENT).hexdigest(), str(tmp_path / "file.zip")):
        assert needed in str(error.value)


def test_without_a_connection_the_error_tells_all_that_helps(server, tmp_path):
    nobody = "http://127.0.0.1:9/file.zip"
    with pytest.raises(DownloadError, match="refused") as error:
        get(server, tmp_path, url=nobody)
    for needed in (nobody, hashlib.md5(CONTENT).hexdigest(), str(tmp_path / "file.zip")):
        assert needed in str(error.value)


@pytest.fixture
def naps(monkeypatch):
    """The waits, which do not happen."""
    waits = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    return waits


def test_waits_double_and_never_pass_the_longest(naps, server, tmp_path):
    server.script = [refuse(500)] * 7
    get(server, tmp_path, patience=Patience(attempts=8, backoff=1.0, longest_wait=20.0))
    assert len(naps) == 7
    for wait, longest in zip(naps, [1, 2, 4, 8, 16, 20, 20], strict=True):
        assert longest / 2 <= wait <= longest


def test_progress_restores_patience(naps, server, tmp_path):
    server.script = [worse(stop=20_000)] * 9
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert all(wait <= HASTE.backoff for wait in naps)
    assert len(naps) == 9 > HASTE.attempts


def test_breaking_off_at_the_same_byte_is_no_progress(naps, server, tmp_path):
    server.script = [worse(stop=20_000, ranges=False)] * 100
    with pytest.raises(DownloadError, match="broke"):
        get(server, tmp_path)
    assert len(server.asked) == HASTE.attempts


@pytest.mark.parametrize("status", [429, 503])
def test_the_server_says_how_long_to_wait(status, naps, server, tmp_path):
    server.script = [
        refuse(status, Retry_After="3"),
        refuse(status, Retry_After=format_datetime(datetime.now(UTC) + timedelta(seconds=4), usegmt=True)),
        refuse(status, Retry_After="Sat, 01 Jan 2022 00:00:00 GMT"),
        refuse(status, Retry_After="Sat, 01 Jan 2022 00:00:00 -0000"),
        refuse(status, Retry_After="soon"),
    ]
    get(server, tmp_path, patience=Patience(attempts=9, backoff=0.001))
    assert naps[0] == 3
    assert 2 < naps[1] <= 4
    assert naps[2:4] == [0, 0]
    assert 0 < naps[4] < 0.1


def test_a_server_that_asks_for_too_long_is_not_waited_for(naps, server, tmp_path):
    server.script = [refuse(429, Retry_After="3600")]
    with pytest.raises(DownloadError, match="3600 seconds"):
        get(server, tmp_path)
    assert naps == []


def test_a_silent_server_is_left_and_what_it_sent_is_kept(server, tmp_path):
    server.script = [
        lambda handler: handler.server.over.wait(10),
        worse(stop=0, hang=True),
        worse(stop=100_000, hang=True),
    ]
    assert get(server, tmp_path, patience=dataclasses.replace(HASTE, attempts=4)).read_bytes() == CONTENT
    assert server.ranges[:3] == [None] * 3
    kept = int(server.ranges[3].removeprefix("bytes=").removesuffix("-"))
    assert 100_000 - downloads.CHUNK <= kept <= 100_000


def test_content_in_chunks_of_unknown_length(server, tmp_path):
    def chunked(handler, stop=None):
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.send_header("Connection", "close")
        handler.end_headers()
        for start in range(0, len(CONTENT), 50_000):
            if start == stop:
                return
            handler.wfile.write(b"%x\r\n%b\r\n" % (50_000, CONTENT[start : start + 50_000]))
        handler.wfile.write(b"0\r\n\r\n")

    server.script = [lambda handler: chunked(handler, stop=100_000), chunked]
    assert get(server, tmp_path, size=None).read_bytes() == CONTENT


def test_an_interrupted_download_goes_on_in_the_next_call(server, tmp_path):
    server.script = [worse(stop=50_000), *[refuse(404)]]
    with pytest.raises(DownloadError, match="kept"):
        get(server, tmp_path)
    assert "file.zip" not in visible(tmp_path)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=50000-", "bytes=50000-"]


def test_a_complete_part_needs_no_request(server, tmp_path):
    server.script = [worse(stop=50_000), refuse(404)]
    with pytest.raises(DownloadError):
        get(server, tmp_path)
    (tmp_path / "file.zip.part").write_bytes(CONTENT)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_wrong_file_is_deleted_and_reported(server, tmp_path):
    server.script = [worse(content=OTHER)]
    with pytest.raises(ChecksumError) as error:
        get(server, tmp_path)
    for content in (CONTENT, OTHER):
        assert hashlib.md5(content).hexdigest() in str(error.value)
    assert server.url in str(error.value)
    assert visible(tmp_path) == []
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_file_put_there_by_hand_is_verified_and_never_replaced(server, tmp_path):
    path = tmp_path / "file.zip"
    path.write_bytes(CONTENT)
    assert get(server, tmp_path) == path
    path.write_bytes(OTHER)
    with pytest.raises(ChecksumError) as error:
        get(server, tmp_path)
    for content in (CONTENT, OTHER):
        assert hashlib.md5(content).hexdigest() in str(error.value)
    assert str(path) in str(error.value)
    assert path.read_bytes() == OTHER
    assert server.asked == []


def test_a_file_without_a_known_checksum_is_taken_and_that_is_said(server, tmp_path, capsys):
    path = fetch_file(remote(server, md5=None, size=None), tmp_path, patience=HASTE)
    assert path.read_bytes() == CONTENT
    assert "no checksum is known" in capsys.readouterr().err


def test_a_file_that_is_here_needs_no_writable_folder(server, tmp_path, monkeypatch):
    (tmp_path / "file.zip").write_bytes(CONTENT)
    before = visible(tmp_path), os.listdir(tmp_path)
    monkeypatch.setattr(Path, "mkdir", None)
    get(server, tmp_path)
    assert (visible(tmp_path), os.listdir(tmp_path)) == before


@pytest.mark.parametrize("how", ["a file", "read-only"])
def test_a_folder_that_cannot_be_written_is_an_error_that_helps(how, server, tmp_path):
    folder = tmp_path / "place"
    if how == "a file":
        folder.write_text("in the way")
    else:
        folder.mkdir()
        folder.chmod(0o500)
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write everywhere")
    with pytest.raises(StorageError, match="cannot be written") as error:
        get(server, folder)
    for needed in (str(folder), "MLTK_DATA", server.url):
        assert needed in str(error.value)


def test_a_disk_without_room_is_found_before_the_download(server, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(CONTENT) - 1))
    with pytest.raises(StorageError, match=r"200 kB .* free"):
        get(server, tmp_path)
    assert visible(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_keeps_what_it_has(code, server, tmp_path, monkeypatch):
    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def write(self, chunk):
            room = 55_000 - self.file.tell()
            if room <= 0:
                raise OSError(code, os.strerror(code))
            return self.file.write(chunk[:room])  # the last write is a short one, as on a real disk

    begin = downloads.begin
    with monkeypatch.context() as patch:
        patch.setattr(downloads, "begin", lambda *arguments: Full(begin(*arguments)))
        with pytest.raises(StorageError, match="145 kB are missing") as error:
            get(server, tmp_path)
    assert os.strerror(code) in str(error.value)
    assert (tmp_path / "file.zip.part").read_bytes() == CONTENT[:55_000]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=55000-"]
