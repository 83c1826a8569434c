"""Prepared datasets on the disk: one compressed ``.npz`` each, without pickles."""

from __future__ import annotations

import logging
import stat
from pathlib import Path
from typing import Any

import numpy as np

from mltk.errors import DataError
from mltk.files import replace_whole
from mltk.npz import Form, open_npz
from mltk.outside import reading

MOST = 1 << 30
"""Bytes that the arrays of a cache may have."""

EXPANSION = 100
"""How many of them a byte of the file may become."""

DAMAGED = "is damaged (delete it, so that it is made again)"

Layout = dict[str, tuple[str, tuple[int | None, ...]]]
"""Name, kind of dtype (``"u1"``: uint8, ``"U"``: strings) and shape of each array; ``None`` is any extent."""


def read_cache(path: Path, layout: Layout) -> dict[str, np.ndarray]:
    """Read arrays of a cache; dtypes, shapes and sizes are checked before the values are read.

    Args:
        path: The ``.npz`` file.
        layout: What to read; other arrays in the file are not looked at.

    Raises:
        DataError: If the file cannot be read, is damaged, or an array is missing or of another form.
    """
    with (
        reading(path, DataError, damaged=DAMAGED),
        open_npz(path, most_bytes=MOST, most_ratio=EXPANSION) as arrays,
    ):
        for name, (kind, shape) in layout.items():
            _check(name, arrays.forms.get(name), kind, shape)
        return {name: arrays[name] for name in layout}


def _check(name: str, found: Form | None, kind: str, expected: tuple[int | None, ...]) -> None:
    """Compare the form of an array with the layout."""
    form = f"{kind} of shape ({', '.join('any' if extent is None else str(extent) for extent in expected)})"
    if found is None:
        raise ValueError(f"{name}.npy is missing; expected {form}")
    fits = len(found.shape) == len(expected) and all(
        wanted in (extent, None) for extent, wanted in zip(found.shape, expected, strict=True)
    )
    if not fits or not found.dtype.str[1:].startswith(kind):
        raise ValueError(f"{name} is {found.dtype.str} of shape {found.shape}; expected {form}")


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
    try:
        if not path.parent.stat().st_mode & stat.S_IWUSR:
            raise PermissionError(f"{path.parent} is read-only")
        replace_whole(path, lambda file: np.savez_compressed(file, **arrays))
    except OSError as error:
        logging.getLogger("mltk").info("%s was not cached: %s", path, error)
        return False
    return True
