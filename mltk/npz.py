"""Reading ``.npz`` files from outside: what their arrays need is known and limited before it is allocated.

NumPy's own reader evaluates a header of any form and allocates what it says. Here a header is what NumPy
writes, its array has as many bytes as the archive says, and those are few enough.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mltk.files import open_to_read

ALWAYS_ALLOWED = 1 << 20
"""So many bytes are allowed at any compression ratio."""

LAST_CHARACTER = 0x10FFFF
"""The largest code point; NumPy would make strings of larger ones, which Python cannot hold."""

_SUFFIX = ".npy"
_HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[<>|][a-zA-Z]\d{0,9})', 'fortran_order': (?:True|False), "
    rb"'shape': \((?P<shape>(?:\d{1,18},(?: \d{1,18},?)*)?|)\), \} *\n"
)
_STARTS = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}
"""Magic and version of a ``.npy`` file, and in how many bytes the length of its header follows."""


@dataclass(frozen=True)
class Form:
    """What an array of a file is, as its header says.

    Attributes:
        dtype: Booleans, integers, real numbers or strings.
        shape: Its extents.
    """

    dtype: np.dtype
    shape: tuple[int, ...]


class NpzArrays:
    """The arrays of an open file.

    Attributes:
        forms: What they are, by name.
    """

    def __init__(self, archive: zipfile.ZipFile, *, most: float) -> None:
        self._archive = archive
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if total > most:
            raise ValueError(f"it expands to {total} bytes; expected at most {most:.0f}")
        self._members = {_array_name(member): member for member in members}
        if len(self._members) < len(members):
            raise ValueError("a name comes twice")
        self.forms = {name: self._form(name) for name in self._members}

    def __getitem__(self, name: str) -> np.ndarray:
        """An array of that name.

        Raises:
            KeyError: If there is none.
        """
        with self._archive.open(self._members[name]) as stream:
            array = np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
        if array.dtype.kind == "U":
            points = np.ascontiguousarray(array).reshape(-1).view(f"{array.dtype.byteorder}u4")
            if points.size and points.max() > LAST_CHARACTER:
                raise ValueError(f"{name} has a character that does not exist")
        return array

    def _form(self, name: str) -> Form:
        member = self._members[name]
        with self._archive.open(member) as stream:
            start = stream.read(8)
            width = _STARTS.get(start)
            if width is None:
                raise ValueError(f"{name} is no array")
            length = stream.read(width)
            header = stream.read(min(int.from_bytes(length, "little"), member.file_size))
        found = _HEADER.fullmatch(header)
        if found is None:
            raise ValueError(f"{name} has not the header of an array")
        dtype = np.dtype(found["dtype"].decode())
        shape = tuple(int(extent) for extent in re.findall(rb"\d+", found["shape"]))
        if dtype.kind not in "biufU":
            raise ValueError(f"{name} is {dtype.str} of shape {shape}; expected numbers or text")
        if dtype.itemsize == 0 and math.prod(shape) > 1:
            raise ValueError(f"{name} is {dtype.str} of shape {shape}: it has no content")
        if dtype.itemsize * math.prod(shape) != member.file_size - len(start) - len(length) - len(header):
            raise ValueError(f"{name} is {dtype.str} of shape {shape}, and has not as many bytes")
        return Form(dtype, shape)


@contextmanager
def open_npz(path: Path, *, most_bytes: float, most_ratio: float) -> Iterator[NpzArrays]:
    """Open a file of arrays.

    Args:
        path: The file.
        most_bytes: What its arrays may have together.
        most_ratio: The same, for each byte of the file.

    Raises:
        OSError: If it cannot be read.
        Exception: Of any class, if it is damaged; for a use inside `mltk.outside.reading`.
    """
    with open_to_read(path) as file:
        size = os.fstat(file.fileno()).st_size
        with zipfile.ZipFile(file) as archive:
            yield NpzArrays(archive, most=min(most_bytes, max(ALWAYS_ALLOWED, most_ratio * size)))


def _array_name(member: zipfile.ZipInfo) -> str:
    """The name of an array, if its member may be opened."""
    name = member.filename
    if not name.endswith(_SUFFIX) or member.flag_bits & 0x1:
        raise ValueError(f"its member {name!r} is no array")
    # Nobody writes such a comment: a damaged length would make one of the members that follow.
    if member.comment:
        raise ValueError(f"its member {name!r} has a comment")
    # zipfile bounds the output of a read only for these two.
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"its member {name!r} is compressed by another method than deflate")
    return name.removesuffix(_SUFFIX)
