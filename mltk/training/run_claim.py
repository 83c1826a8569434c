"""Taking a run folder: made, locked and found free in one step, whoever else wants it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mltk.errors import RunError, RunInUseError
from mltk.files import lock, open_to_append, reason

LOCK = ".lock"
"""The file in a run folder that its training has locked."""

TRIES = 100
"""How often a folder is made anew that another process takes away again."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Make a folder if need be, and keep every other training out of it.

    The lock is the operating system's and ends with the process, however it ends. A folder that was made for
    it and in which nothing was written is removed.

    Raises:
        RunError: If the folder cannot be made or written.
        RunInUseError: If another training is in it.
    """
    file, made = _take(path)
    with file:
        try:
            yield
        finally:
            if made:
                _remove_if_empty(path)


def shown(path: Path) -> str:
    """A path for a message, in quotes if it holds what cannot be printed."""
    text = str(path)
    return text if text.isprintable() else repr(text)


def _take(path: Path) -> tuple[BinaryIO, bool]:
    """The locked file, and whether the folder was made for it."""
    made, problem = False, "it is removed again and again"
    for _ in range(TRIES):
        try:
            try:
                path.mkdir(parents=True)
                made = True
            except FileExistsError as error:
                if not path.is_dir():
                    if path.exists():
                        raise
                    raise FileNotFoundError(error.errno, error.strerror) from None  # removed since
            file = open_to_append(path / LOCK)
        except FileNotFoundError as error:  # whoever held the folder has perhaps removed it in between
            problem = reason(error)
            continue
        except (OSError, ValueError) as error:  # a name with NUL is a ValueError
            raise RunError(f"{shown(path)} cannot be used as a run folder: {reason(error)}") from error
        try:
            lock(file)
        except OSError:
            file.close()
            raise RunInUseError(f"{shown(path)} is in use by another training") from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), (path / LOCK).stat()):
                return file, made
        file.close()  # a lock on a file that was removed keeps nobody out
    raise RunError(f"{shown(path)} cannot be used as a run folder: {problem}")


def _remove_if_empty(path: Path) -> None:
    """Remove a folder that holds nothing but its lock; on Windows, where it is open, it stays."""
    with suppress(OSError):
        if os.listdir(path) == [LOCK]:
            (path / LOCK).unlink()
            path.rmdir()
