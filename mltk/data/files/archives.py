"""Reading zip and tar archives that come from outside, without ever writing to the disk.

Nothing is unpacked: a loader gets the names and the bytes, one member at a time. So a hostile path or link
could do no harm here; it is refused nevertheless, because an archive that has one is not a dataset's.
"""

from __future__ import annotations

import gzip
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from mltk.errors import ArchiveError
from mltk.files import open_to_read
from mltk.outside import reading

CHUNK = 1 << 20
"""Bytes read at a time, so that a bomb is noticed before it fills the memory."""

BLOCK = tarfile.BLOCKSIZE
"""Headers and data of a tar archive fill whole blocks of so many bytes; a block of zeros ends it."""

LONGEST_NAME = 300
"""Characters that the name of a member may have: an error shows it."""

ALWAYS_ALLOWED = 1 << 20
"""So many bytes are allowed at any compression ratio: a few lines of text may well shrink a hundredfold."""


def read_members(
    path: Path, *, max_bytes: int = 1 << 30, max_members: int = 100_000, max_ratio: float = 100.0
) -> Iterator[tuple[str, bytes]]:
    """The files in a zip, tar or tar.gz archive, in the archive's order.

    Args:
        path: The archive; its first bytes say which kind it is.
        max_bytes: The most that it may hold uncompressed, counted while reading and not as declared.
        max_members: The most files and folders that it may have.
        max_ratio: The most that it may hold uncompressed for each byte of the archive.

    Yields:
        Name and content of each file; the names are relative, with ``/`` between the parts. Folders have no
        content and are left out.

    Raises:
        ArchiveError: If the archive is missing, truncated, damaged or of another kind; if it goes beyond a
            limit; if a member's name is absolute, has ``..``, a drive letter or a backslash, or comes twice;
            or if a member is encrypted, a link or a device. The names of a zip archive are checked before the
            first file is yielded, those of a tar archive one by one.
    """
    with (
        reading(path, ArchiveError, damaged="is damaged, or not a zip or tar archive"),
        open_to_read(path) as file,
    ):
        size = os.fstat(file.fileno()).st_size
        start = file.read(2)
        file.seek(0)
        allowance = _Allowance(path, max_bytes, max_members, max(ALWAYS_ALLOWED, int(max_ratio * size)))
        if start == b"PK":
            yield from _read_zip(file, allowance)
        elif start == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=file) as stream:
                yield from _read_tar(stream, allowance)
        else:
            yield from _read_tar(file, allowance)


class _Stream(Protocol):
    """What can be read."""

    def read(self, size: int, /) -> bytes: ...


class _Allowance:
    """What an archive may still hold, and the names that it has had."""

    def __init__(self, path: Path, max_bytes: int, max_members: int, max_expanded: int) -> None:
        self.path = path
        self._max_bytes, self._max_members, self._max_expanded = max_bytes, max_members, max_expanded
        self._bytes = 0
        self._names: set[str] = set()

    def refuse(self, name: str, problem: str) -> ArchiveError:
        """The error about a member."""
        shown = repr(name[:LONGEST_NAME]) + "…" * (len(name) > LONGEST_NAME)
        return ArchiveError(f"{self.path} is refused: its member {shown} {problem}")

    def enter(self, name: str) -> str:
        """Check a member's name and count it.

        Returns:
            The name without ``.`` parts and doubled slashes.
        """
        if len(name) > LONGEST_NAME:
            raise self.refuse(name, f"has a name of more than {LONGEST_NAME} characters")
        if "\\" in name:
            raise self.refuse(name, "has a backslash in its name")
        if "\0" in name or not name:
            raise self.refuse(name, "has no proper name")
        if name.startswith("/"):
            raise self.refuse(name, "has an absolute path")
        if re.match("[A-Za-z]:", name):
            raise self.refuse(name, "has a path with a drive letter")
        plain = PurePosixPath(name)
        if ".." in plain.parts:
            raise self.refuse(name, "has a path that leads out of the archive")
        if str(plain) in self._names:
            raise self.refuse(name, "comes twice")
        self._names.add(str(plain))
        if len(self._names) > self._max_members:
            raise self.refuse(name, f"is one more than the {self._max_members} that it may have")
        return str(plain)

    def spend(self, size: int) -> None:
        """Count bytes that have been uncompressed."""
        self._bytes += size
        if self._bytes > self._max_bytes:
            raise ArchiveError(f"{self.path} is refused: it holds more than {self._max_bytes} bytes")
        if self._bytes > self._max_expanded:
            raise ArchiveError(
                f"{self.path} is refused: it expands to more than {self._max_expanded} bytes, "
                "which no dataset does"
            )


def _read_zip(file: BinaryIO, allowance: _Allowance) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(file) as archive:
        members = [(_check_zip_member(member, allowance), member) for member in archive.infolist()]
        for name, member in members:
            if member.is_dir():
                continue
            content = bytearray()
            with archive.open(member) as stream:
                while chunk := stream.read(CHUNK):
                    allowance.spend(len(chunk))
                    content += chunk
            if len(content) != member.file_size:
                raise ArchiveError(
                    f"{allowance.path} is damaged: its member {name!r} has {len(content)} bytes "
                    f"and should have {member.file_size}"
                )
            yield name, bytes(content)


def _check_zip_member(member: zipfile.ZipInfo, allowance: _Allowance) -> str:
    # zipfile cuts the name at a zero byte, and on Windows turns backslashes, so the original is checked.
    name = allowance.enter(member.orig_filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        what = "a symbolic link" if kind == stat.S_IFLNK else "a device or the like"
        raise allowance.refuse(name, f"is {what}")
    if member.flag_bits & 0x1:
        raise allowance.refuse(name, "is encrypted")
    # zipfile bounds the output of a read only for these two: of the others, one read may be a bomb.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise allowance.refuse(name, "is compressed by another method than deflate")
    return name


def _read_tar(stream: _Stream, allowance: _Allowance) -> Iterator[tuple[str, bytes]]:
    # Read as a stream, so that every byte passes the counter once, those of headers and folders included.
    counter = _Counter(stream, allowance)
    end = 0
    with tarfile.open(fileobj=counter, mode="r|", bufsize=CHUNK) as archive:  # type: ignore[call-overload]
        for member in archive:
            name = allowance.enter(member.name)
            end = member.offset_data + (0 if member.isdir() else -(-member.size // BLOCK) * BLOCK)
            if member.isdir():
                continue
            if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
                raise allowance.refuse(name, f"is {_KINDS.get(member.type, 'not a plain file')}")
            content = archive.extractfile(member)
            assert content is not None, "a plain file has content"
            yield name, content.read()
    counter.finish(end)


_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


class _Counter:
    """Counts the bytes of a tar archive on their way to tarfile, and remembers the last one that is not zero.

    tarfile takes a damaged header for the end of the archive, and so does it with a missing end: both would
    lose members silently.
    """

    def __init__(self, stream: _Stream, allowance: _Allowance) -> None:
        self._stream = stream
        self._allowance = allowance
        self._position = 0
        self._last_content = 0

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        chunk = self._stream.read(size)
        self._allowance.spend(len(chunk))
        content = len(chunk.rstrip(b"\0"))
        if content:
            self._last_content = self._position + content
        self._position += len(chunk)
        return chunk

    def finish(self, end: int) -> None:
        """Read to the end, where gzip has its checksum, and see that only zeros follow the last member."""
        while self.read(CHUNK):
            pass
        if self._last_content > end or self._position < end + BLOCK:
            raise ArchiveError(f"{self._allowance.path} is damaged: it breaks off after {end} bytes")
