"""Prepared datasets on the disk: one compressed ``.npz`` each, without pickles."""

from __future__ import annotations

import logging
import os
import stat
import uuid
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from mltk.errors import DataError

Layout = dict[str, tuple[str, tuple[int | None, ...]]]
"""Name, kind of dtype (``"u1"``: uint8, ``"U"``: strings) and shape of each array; ``None`` is any extent."""


def read_cache(path: Path, layout: Layout) -> dict[str, np.ndarray]:
    """Read arrays of a cache; dtypes and shapes are checked before the values are read.

    Args:
        path: The ``.npz`` file.
        layout: What to read; other arrays in the file are not looked at.

    Raises:
        DataError: If the file cannot be read, is damaged, or an array is missing or of another form.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for name, (kind, shape) in layout.items():
                with archive.open(f"{name}.npy") as stream:
                    _check_header(name, np.lib.format.read_magic(stream), stream, kind, shape)
                with archive.open(f"{name}.npy") as stream:
                    arrays[name] = np.lib.format.read_array(stream, allow_pickle=False)
    # What zipfile, zlib and NumPy raise for files that are cut short, altered or no archives at all.
    except (OSError, EOFError, KeyError, ValueError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        reason = error.args[0] if isinstance(error, KeyError) else error
        raise DataError(f"{path} is damaged: {reason}; delete it, so that it is made again") from error
    return arrays


def _check_header(
    name: str, version: tuple[int, int], stream: IO[bytes], kind: str, expected: tuple[int | None, ...]
) -> None:
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    fits = len(shape) == len(expected) and all(
        wanted in (found, None) for found, wanted in zip(shape, expected, strict=True)
    )
    if not fits or not dtype.str[1:].startswith(kind):
        form = ", ".join("any" if extent is None else str(extent) for extent in expected)
        raise ValueError(f"{name} is {dtype.str} of shape {shape}; expected {kind} of shape ({form})")


def write_cache(path: Path, arrays: dict[str, Any]) -> bool:
    """Write arrays, so that the file is either complete or not there.

    A folder that cannot be written is no error: the cache only saves time. The owner's write permission is
    respected even where the system would not insist on it.

    Args:
        path: The ``.npz`` file.
        arrays: NumPy arrays by name.

    Returns:
        Whether the cache was written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        if not path.parent.stat().st_mode & stat.S_IWUSR:
            raise PermissionError(f"{path.parent} is read-only")
        with temporary.open("xb") as file:
            np.savez_compressed(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        logging.getLogger("mltk").info("%s was not cached: %s", path, error)
        return False
    finally:
        with suppress(OSError):
            temporary.unlink()
    return True
