"""The one door for what comes from outside: sizes known before anything is read, one error for all failures.

A file from outside may be anything, and the parsers behind the door (zip, PNG, TOML, JSON, …) fail in a
hundred ways. Whatever fails inside `reading` comes out as the reader's own error, which names the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mltk.errors import MltkError
from mltk.files import AnyPath, open_to_read

DEEPEST = 64
"""Levels that lists and tables may have inside each other: code that walks through them is recursive."""

LONGEST = 300
"""Characters of a parser's message that are shown: it may quote what it read."""


@contextmanager
def reading(
    source: AnyPath, error: Callable[[str], MltkError], *, damaged: str = "is damaged"
) -> Iterator[None]:
    """Turn whatever fails while something from outside is read into one error that names it.

    The machine's own lack of memory stays a `MemoryError`: readers know what a file may cost before they read
    it, so it is not the file's fault. So do `KeyboardInterrupt` and `SystemExit`.

    Args:
        source: The file, or what else to call it.
        error: The reader's error. An error of mltk that names the source already comes out as it is.
        damaged: What is said of the source, before the reason.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as problem:
        name = os.fspath(source)
        if isinstance(problem, MltkError) and name in str(problem):
            raise
        if isinstance(problem, FileNotFoundError):
            raise error(f"{name} is missing: {problem.strerror}") from problem
        if isinstance(problem, OSError) and problem.errno is not None:
            raise error(f"{name} cannot be read: {problem.strerror}") from problem
        raise error(f"{name} {damaged}: {in_words(problem)}") from problem


def read_bytes(path: Path, *, most: int) -> bytes:
    """The content of a file.

    Args:
        path: A file, or a link to one.
        most: How many bytes it may have.

    Raises:
        OSError: If it cannot be read, or is a pipe, a device or a folder.
        ValueError: If it is larger.
    """
    with open_to_read(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise ValueError(f"it has {size} bytes; expected at most {most}")
        return file.read(size)


def read_json(text: str | bytes) -> Any:
    """What a JSON text says; ``NaN`` and infinities are numbers, as in Python.

    Raises:
        ValueError: If it is none, or nested too deeply.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} levels deep") from None
    check_depth(value)
    return value


def check_depth(value: Any) -> None:
    """Refuse dicts and lists that are nested more than `DEEPEST` levels deep.

    Raises:
        ValueError: If they are.
    """
    level = [value]
    for _ in range(DEEPEST):
        level = [
            item
            for container in level
            if isinstance(container, dict | list)
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"nested more than {DEEPEST} levels deep")


def in_words(problem: BaseException) -> str:
    """The message of an error, cut short; its class where the message alone says little."""
    text = str(problem)
    if not text or isinstance(problem, KeyError | RecursionError | SystemError):
        text = f"{type(problem).__name__} {text}".rstrip()
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
