"""Archives from outside: good ones are read whole, hostile and damaged ones are refused by name."""

import gzip
import io
import os
import random
import stat
import struct
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mltk.data.files.archives import ALWAYS_ALLOWED, read_members
from mltk.errors import ArchiveError

KINDS = ["zip", "tar", "tar.gz"]
RANDOM = random.Random(0).randbytes(5000)
FILES = {"images/Latin/1.png": b"one", "images/Greek/1.png": b"", "images/noise": RANDOM, "README": b"read"}


def write(path, files, kind):
    """An archive of files and folders; a name that ends with a slash is a folder."""
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files:
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
            for name, content in files:
                member = tarfile.TarInfo(name.rstrip("/") or name)
                member.size = len(content)
                member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
                archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(params=KINDS)
def archive(request, tmp_path):
    """Write an archive of each kind."""
    return lambda files: write(tmp_path / f"archive.{request.param}", files, request.param)


def read(path, **limits):
    return list(read_members(path, **limits))


def refused(path, what, **limits):
    with pytest.raises(ArchiveError, match=what) as error:
        read(path, **limits)
    assert str(path) in str(error.value)
    return str(error.value)


names = st.lists(st.text("abcé -.", min_size=1, max_size=9).filter(lambda part: part.strip(".")), max_size=4)


@settings(max_examples=30)
@given(
    files=st.dictionaries(
        names.map(lambda parts: "/".join(["top", *parts, "file"])), st.binary(max_size=2000)
    ),
    kind=st.sampled_from(KINDS),
)
def test_what_is_written_is_read_in_order(files, kind, tmp_path_factory):
    path = write(tmp_path_factory.mktemp("archives") / "archive", list(files.items()), kind)
    assert read(path) == list(files.items())


def test_folders_are_left_out_and_names_are_plain(archive):
    path = archive([("./images/", b""), ("./images//a.png", b"a"), ("b..png", b"b"), ("..c", b"c")])
    assert read(path) == [("images/a.png", b"a"), ("b..png", b"b"), ("..c", b"c")]


def test_nothing_is_written(archive, tmp_path, monkeypatch):
    path = archive(list(FILES.items()))
    monkeypatch.chdir(tmp_path)
    before = os.listdir()
    read(path)
    assert os.listdir() == before


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("/etc/passwd", "absolute"),
        ("//server/share", "absolute"),
        ("../up", "out of the archive"),
        ("a/../../up", "out of the archive"),
        ("a/..", "out of the archive"),
        ("a/../b", "out of the archive"),
        ("C:/windows", "drive letter"),
        ("c:up", "drive letter"),
        ("a\\..\\..\\up", "backslash"),
        ("\\up", "backslash"),
        ("../folder/", "out of the archive"),
    ],
)
def test_hostile_names(name, what, archive):
    message = refused(archive([("good", b"1"), (name, b"" if name.endswith("/") else b"x")]), what)
    assert repr(name.rstrip("/"))[:-1] in message


def test_a_name_is_short_enough_to_be_shown(archive):
    assert len(refused(archive([("good", b"1"), ("long/" * 1000 + "name", b"x")]), "more than 300")) < 1000
    assert read(archive([("n" * 90 + "/" + "n" * 90, b"x")]))


def test_a_zip_with_a_hostile_name_yields_nothing_at_all(tmp_path):
    members = read_members(write(tmp_path / "a.zip", [("good", b"1"), ("../up", b"x")], "zip"))
    with pytest.raises(ArchiveError):
        next(members)


def test_a_name_that_is_cut_at_a_zero_byte(tmp_path):
    path = write(tmp_path / "a.zip", [("good.pngX../../up", b"x")], "zip")
    path.write_bytes(path.read_bytes().replace(b"good.pngX", b"good.png\0"))
    refused(path, "no proper name")


@pytest.mark.parametrize("pair", [("a", "a"), ("a/b", "./a//b"), ("a/", "a")])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_comes_once(pair, archive):
    refused(archive([(name, b"") for name in pair]), "comes twice")


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
        (tarfile.CONTTYPE, "plain file"),
        (tarfile.GNUTYPE_SPARSE, "plain file"),
        (b"Z", "plain file"),
    ],
)
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tar_members_that_are_no_files(kind, what, mode, tmp_path):
    member = tarfile.TarInfo("innocent")
    member.type, member.linkname = kind, "elsewhere"
    with tarfile.open(tmp_path / "a.tar", mode) as archive:
        archive.addfile(member)
    assert "innocent" in refused(tmp_path / "a.tar", what)


def test_a_sparse_file_of_the_other_format(tmp_path):
    member = tarfile.TarInfo("innocent")
    member.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.map": "0,1", "GNU.sparse.size": "99999999999"}
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    refused(tmp_path / "a.tar", "plain file")


@pytest.mark.parametrize(
    ("mode", "what"),
    [
        (stat.S_IFLNK, "symbolic link"),
        (stat.S_IFCHR, "device"),
        (stat.S_IFIFO, "device"),
        (stat.S_IFSOCK, "device"),
    ],
)
def test_zip_members_that_are_no_files(mode, what, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        member = zipfile.ZipInfo("innocent")
        member.external_attr = (mode | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    assert "innocent" in refused(tmp_path / "a.zip", what)


def test_an_encrypted_member(tmp_path):
    path = write(tmp_path / "a.zip", [("secret", b"x")], "zip")
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    assert "secret" in refused(path, "refused.*encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_refused(method, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("big", b"0" * 1000)
    refused(tmp_path / "a.zip", "deflate")


def test_too_many_members(archive):
    path = archive([(f"{number}", b"") for number in range(20)])
    assert len(read(path, max_members=20)) == 20
    refused(path, "19", max_members=19)


def test_too_many_bytes(archive):
    noise = random.Random(1)
    contents = [noise.randbytes(100_000) for _ in range(5)]
    path = archive([(str(number), content) for number, content in enumerate(contents)])
    assert len(read(path, max_bytes=520_000)) == 5
    refused(path, "more than 400000 bytes", max_bytes=400_000)


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb(kind, tmp_path):
    path = write(tmp_path / "bomb", [("zeros", bytes(20_000_000))], kind)
    refused(path, "expands")
    assert len(read(path, max_ratio=2000)) == 1


def test_a_small_file_may_shrink_a_lot(tmp_path):
    path = write(tmp_path / "a.zip", [("zeros", bytes(ALWAYS_ALLOWED))], "zip")
    assert len(read(path)[0][1]) == ALWAYS_ALLOWED


@pytest.mark.parametrize("declared", [10, 2_000_000, 3_000_001, 4_000_000_000])
def test_a_length_that_is_not_true(declared, tmp_path):
    path = write(tmp_path / "a.zip", [("zeros", bytes(3_000_000))], "zip")
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", 3_000_000), struct.pack("<L", declared)))
    refused(path, "damaged", max_ratio=10_000)


def test_members_that_share_their_bytes(tmp_path):
    """Many entries of one directory point at the same compressed content, which alone would be allowed."""
    path = write(tmp_path / "a.zip", [("00", bytes(900_000))], "zip")
    content = path.read_bytes()
    start, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    entry, tail = content[start:end], bytearray(content[end:])
    entries = entry * 50
    struct.pack_into("<HHL", tail, 8, 50, 50, len(entries))
    path.write_bytes(content[:start] + entries + tail)
    refused(path, "comes twice")


def test_a_bomb_in_a_header(tmp_path):
    """A tar header may have a text of any length, which tarfile would read at once."""
    member = tarfile.TarInfo("innocent")
    member.pax_headers = {"comment": "0" * 20_000_000}
    with tarfile.open(tmp_path / "a.tgz", "w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    refused(tmp_path / "a.tgz", "expands")


def test_a_bomb_in_a_folder_and_behind_the_end(tmp_path):
    for name, kind in (("folder", tarfile.DIRTYPE), ("file", tarfile.REGTYPE)):
        member = tarfile.TarInfo(name)
        member.type = kind
        path = tmp_path / f"{name}.tgz"
        with gzip.open(path, "wb") as stream:
            with tarfile.open(fileobj=stream, mode="w") as archive:
                archive.addfile(member)
            stream.write(bytes(20_000_000))
        refused(path, "expands")


def test_every_truncation_is_noticed(archive):
    path = archive(list(FILES.items()))
    content = path.read_bytes()
    end = len(content.rstrip(b"\0")) if path.suffix == ".tar" else len(content)
    for length in {0, 1, 2, 3, *range(4, end, 97), *range(512, end, 512), end - 1}:
        path.write_bytes(content[:length])
        refused(path, "damaged")


@settings(max_examples=60)
@given(data=st.data(), kind=st.sampled_from(KINDS))
def test_a_changed_byte_never_passes_as_other_content_of_a_file(data, kind, tmp_path_factory):
    """Whatever is damaged, what is read is right or refused; plain tar has no checksum over contents."""
    path = write(tmp_path_factory.mktemp("archives") / "archive", list(FILES.items()), kind)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        found = dict(read(path))
    except ArchiveError:
        return
    if kind != "tar":
        assert list(found.values()) == list(FILES.values())


def test_a_damaged_header_in_the_middle_is_not_the_end(tmp_path):
    path = write(tmp_path / "a.tar", [("one", b"1"), ("two", b"2"), ("three", b"3")], "tar")
    content = bytearray(path.read_bytes())
    content[content.index(b"two")] = ord("x")
    path.write_bytes(content)
    refused(path, "damaged")


def test_a_tar_cut_between_two_members(tmp_path):
    path = write(tmp_path / "a.tar", [("one", b"1"), ("two", b"2")], "tar")
    path.write_bytes(path.read_bytes()[:1024])
    refused(path, "damaged")


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"<html>not found</html>" * 100, RANDOM, b"\x1f\x8b" + RANDOM]
)
def test_what_is_no_archive(content, tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    refused(path, "damaged, or not")


def test_what_is_not_there_or_a_folder(tmp_path):
    refused(tmp_path / "nothing", "No such file")
    refused(tmp_path, "directory")
