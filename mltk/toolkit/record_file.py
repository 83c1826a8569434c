"""The file of records: a SQLite database that says what it is, and is whole from the moment that it is there.

A file that stands there is opened to be read alone until it is known to be one of mltk's: its application and
format are numbers in its header, its table is compared with the one below, and its pages are checked. So
whatever else stands there is refused as it is. A new file is made under another name, and gets its own name
when it is complete.
"""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mltk.errors import RunError
from mltk.files import reason, sync_folder

if TYPE_CHECKING:
    from sqlite3 import Connection

APPLICATION = int.from_bytes(b"mltk")
"""What SQLite calls an application id."""

FORMAT = 1
"""What SQLite calls a user version: it grows with the table."""

WAIT = 60.0
"""Seconds until a file that others write to without a pause is given up."""

UNLOGGED = "ro&immutable=1"
"""How a file is opened that nobody writes to: nothing is made beside it."""

TABLE = """CREATE TABLE records (
  run TEXT NOT NULL,
  source TEXT NOT NULL,
  seed INTEGER NOT NULL,
  episode INTEGER NOT NULL,
  learner TEXT NOT NULL,
  metric TEXT NOT NULL,
  outcome REAL,
  measures TEXT NOT NULL,
  costs TEXT NOT NULL,
  trace TEXT NOT NULL,
  UNIQUE (run, source, seed, episode, learner)
)"""
"""The one table. An outcome that is no finite number is null; the last three are JSON."""

WRONG = {
    "OperationalError": "is damaged",  # a text that is none
    "SQLITE_BUSY": f"is in use: others have kept it locked for {WAIT:.0f} seconds",
    "SQLITE_CANTOPEN": "cannot be opened: its folder is missing or may not be written",
    "SQLITE_CORRUPT": "is damaged",
    "SQLITE_FULL": "cannot be written: the disk is full",
    "SQLITE_NOTADB": "is no file of records",
    "SQLITE_READONLY": "cannot be written: it is read-only",
}
"""What is said of a file where SQLite fails in a way that has a name."""


@contextlib.contextmanager
def sqlite_errors(name: str) -> Iterator[None]:
    """Turn whatever SQLite fails with into a `RunError` that names the file."""
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        # The long name of an error begins with the short one.
        said = [said for code, said in WRONG.items() if errorname(error).startswith(code)]
        raise RunError(f"{name} {(*said, 'cannot be used')[0]} ({error})") from error


def errorname(error: Exception) -> str:
    """SQLite's name of an error, such as ``"SQLITE_FULL"``; that of Python's class, where it is Python's."""
    return getattr(error, "sqlite_errorname", type(error).__name__)


def in_memory() -> Connection:
    """An empty table in memory."""
    import sqlite3

    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.execute(TABLE)
    return connection


def in_file(path: Path) -> Connection:
    """The table in a file, which is made if it is not there.

    Raises:
        RunError: If it is damaged, of another application or a newer format, or cannot be opened or made.
    """
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        _make(path)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {reason(error)}") from error
    else:
        if not stat.S_ISREG(kind):
            raise RunError(f"{path} is no plain file; expected one that mltk.Records has made, or none")
    with sqlite_errors(str(path)):
        return _opened(path)


def _opened(path: Path) -> Connection:
    """Open a file that is there, if it is one of records; else it stays as it is."""
    import sqlite3

    # Where there is a log beside it, it is in use, or a process was killed, and the log is part of it.
    logged = path.with_name(f"{path.name}-wal").exists()
    with contextlib.closing(_connect(path, "ro" if logged else UNLOGGED)) as connection:
        _check_header(connection, path)
        if logged:
            _check_table(connection, path)
    try:
        return _checked(path, "rw")
    except sqlite3.OperationalError as error:
        # In a folder that may not be written nobody makes a log, and the file is all that there is.
        if logged or errorname(error) not in ("SQLITE_CANTOPEN", "SQLITE_READONLY_DIRECTORY"):
            raise
        return _checked(path, UNLOGGED)


def _make(path: Path) -> None:
    """Make an empty file of records, unless another process is faster."""
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with sqlite_errors(str(path)), contextlib.closing(_connect(new, "rwc")) as connection:
            connection.execute(TABLE)
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
            connection.execute("PRAGMA journal_mode = WAL")
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
        sync_folder(path.parent)
    except OSError as error:
        raise RunError(f"{path} cannot be made: {reason(error)}") from error
    finally:
        new.unlink(missing_ok=True)


def _checked(path: Path, mode: str) -> Connection:
    connection = _connect(path, mode)
    try:
        _check_header(connection, path)
        _check_table(connection, path)
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, mode: str) -> Connection:
    import sqlite3

    where = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(where, uri=True, timeout=WAIT, isolation_level=None, check_same_thread=False)


def _check_header(connection: Connection, path: Path) -> None:
    """Raise unless it is a file of records, in a format that is known."""
    # A file from outside may define anything: nothing of it is run.
    for setting in ("trusted_schema = OFF", "cell_size_check = ON"):
        connection.execute(f"PRAGMA {setting}")
    ((application,),) = connection.execute("PRAGMA application_id")
    ((version,),) = connection.execute("PRAGMA user_version")
    if application != APPLICATION:
        raise RunError(
            f"{path} is empty or of another application; expected a file that mltk.Records has made, or none"
        )
    if version != FORMAT:
        raise RunError(
            f"{path} has format {version}, of another mltk; expected {FORMAT}, which this one knows"
        )


def _check_table(connection: Connection, path: Path) -> None:
    """Raise unless it is whole, and has the table alone, on which nothing else acts."""
    problems = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if problems != "ok":
        raise RunError(f"{path} is damaged: {problems}")
    schema = (
        "SELECT sql FROM sqlite_master WHERE name = 'records' OR (tbl_name = 'records' AND type != 'index')"
    )
    if [text for (text,) in connection.execute(schema)] != [TABLE]:
        raise RunError(f"{path} is damaged: its table is not the one that mltk.Records makes")
