"""Records: one table of what was run on which episode by which learner, and how it went.

The table is a SQLite file, which several processes and threads may write to at a time. What `Records.add` has
returned for stays when a process is killed at any moment; when the machine loses its power, the last rows may
be missing, and the file is whole. A row is there once: what is added again, as when a run is repeated or goes
on, changes nothing.

What is no finite number is null in the file, and NaN when it is read.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from mltk.errors import RunError, SettingError
from mltk.files import AnyPath
from mltk.installation import needed_for
from mltk.outside import reading
from mltk.toolkit.record_file import WRONG, errorname, in_file, in_memory, sqlite_errors
from mltk.toolkit.recording import Recorder, new_run
from mltk.toolkit.row import Row

if TYPE_CHECKING:
    from sqlite3 import Connection

INSERT = """INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (run, source, seed, episode, learner) DO NOTHING"""

KEPT = "SELECT outcome FROM records WHERE run = ? AND source = ? AND seed = ? AND episode = ? AND learner = ?"

SAME = 1e-6
"""Outcomes that differ by less, relative to their size, are the same but for rounding."""


class _Open(NamedTuple):
    """A connection, and who may use it."""

    connection: Connection
    lock: Lock


class Records:
    """A table of rows in a file, or in memory.

    It is a context manager, which closes the file; it may be used by several threads, and sent to other
    processes or taken there by a fork, where it opens the file anew.

    Args:
        path: A file that `Records` has made, or one that is not there yet; ``None`` for memory.

    Raises:
        RunError: If the file is damaged, is of another application or a newer format, or cannot be opened;
            it stays as it is.

    Examples:
        >>> import mltk
        >>> tasks, be = mltk.data.Blobs(ways=3, shots=2, queries=5), mltk.backend("numpy")
        >>> ridge = mltk.algorithms.RidgeRegression(mltk.models.Sequential([]))
        >>> records = mltk.Records()
        >>> watch = records.watcher(run="first")
        >>> found = mltk.evaluate(ridge, ridge.init(be, 0), tasks, episodes=40, backend=be, watch=watch)
        >>> records.sql("SELECT learner, count(*), round(avg(outcome), 3) FROM records GROUP BY learner")
        [('RidgeRegression', 40, 0.7)]
        >>> records.close()
    """

    def __init__(self, path: AnyPath | None = None) -> None:
        if path is not None and not (isinstance(path, str | os.PathLike) and os.fspath(path)):
            raise SettingError(f"path is {path!r}; expected the path of a file, or None")
        self.path = None if path is None else Path(path)
        self._open: dict[int, _Open] = {}  # by process: what a fork brings along is neither used nor closed
        self._closed = False
        self._memory = None if self.path is not None else os.getpid()
        self._opened()

    def add(self, rows: Iterable[Row]) -> int:
        """Add rows, all or none, but for those that are there already.

        Where one that is there has another outcome, it stays, and a warning says so.

        Returns:
            How many were new.

        Raises:
            SettingError: If one of them is no row; then none is added.
            RunError: If the file cannot be written, or is locked by others for a minute.
        """
        rows = list(rows)
        for row in rows:
            if not isinstance(row, Row):
                raise SettingError(f"rows holds {row!r}; expected each to be a mltk.toolkit.Row")
        values = [row.to_values() for row in rows]
        with self._using() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                before = connection.total_changes
                connection.executemany(INSERT, values)
                new = connection.total_changes - before
                others = [] if new == len(rows) else _others(connection, values)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        for run, learner in sorted({(run, learner) for run, _, _, _, learner in others}):
            warnings.warn(
                f"{self._name} keeps rows of {learner} in {run!r} that were added again with other outcomes; "
                "what is no repetition should have a run of its own",
                stacklevel=2,
            )
        return new

    def rows(
        self, *, run: str | None = None, source: str | None = None, learner: str | None = None
    ) -> list[Row]:
        """The rows, sorted by run, source, seed, episode and learner.

        Args:
            run: Those of a run, and of what is below it: ``"a"`` and ``"a/training"``, not ``"ab"``.
            source: Those of a source.
            learner: Those of a learner.

        Raises:
            RunError: If the file is damaged.
        """
        wanted = "(:run IS NULL OR run = :run OR substr(run, 1, length(:run) + 1) = :run || '/')"
        for name in ("source", "learner"):
            wanted += f" AND (:{name} IS NULL OR {name} = :{name})"
        query = f"SELECT * FROM records WHERE {wanted} ORDER BY run, source, seed, episode, learner"
        with self._using() as connection:
            found = connection.execute(query, {"run": run, "source": source, "learner": learner}).fetchall()
        with reading(self._name, RunError):
            return [Row.from_values(*values) for values in found]

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """What a query finds in the table ``records``, whose columns are those of a `Row`.

        Measures, costs and trace are JSON: ``json_extract(measures, '$.hardness')``.

        Args:
            query: One SELECT; whatever would change something is refused.
            parameters: What its question marks or names stand for.

        Raises:
            SettingError: If the query is not valid, or does more than to read.
            RunError: If the file is damaged.
        """
        import sqlite3

        allowed = {
            *(sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ),
            *(sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE),
        }

        def only_reading(action: int, *_: Any) -> int:
            return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY

        with self._using() as connection:
            connection.set_authorizer(only_reading)
            try:
                return connection.execute(query, parameters).fetchall()
            except (sqlite3.Error, sqlite3.Warning, TypeError, ValueError, OverflowError) as error:
                if errorname(error).startswith(tuple(WRONG)):
                    raise
                raise SettingError(f"query is {query!r}: {error}; expected one SELECT") from error
            finally:
                connection.set_authorizer(None)

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` of all rows, with columns such as ``"measures.hardness"``.

        Raises:
            MissingLibraryError: If pandas is not installed.
        """
        with needed_for("to_pandas"):
            import pandas
        found = []
        for row in self.rows():
            line = dict(vars(row))
            for name in ("measures", "costs"):
                line |= {f"{name}.{key}": value for key, value in line.pop(name).items()}
            found.append(line)
        first = [name for name in Row.__dataclass_fields__ if name not in ("measures", "costs")]
        return pandas.DataFrame(found, columns=None if found else first)

    def watcher(self, run: str | None = None) -> Recorder:
        """What writes down the trainings, evaluations and comparisons that it watches.

        Args:
            run: What the rows are part of: a name for what is repeated or goes on, so that nothing is there
                twice; ``None`` for a new name, of the time.
        """
        return Recorder(self.add, new_run() if run is None else run)

    def close(self) -> None:
        """Close the file; what is in memory is gone."""
        self._closed = True
        held = self._open.pop(os.getpid(), None)
        if held is not None:
            with held.lock:
                held.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Records({'' if self.path is None else repr(str(self.path))})"

    def __reduce__(self) -> tuple[type[Records], tuple[str]]:
        if self.path is None:
            raise SettingError(
                "records in memory cannot be sent to other processes; expected those of a file"
            )
        return Records, (str(self.path),)

    @property
    def _name(self) -> str:
        return "the table in memory" if self.path is None else str(self.path)

    def _opened(self) -> _Open:
        """The connection of this process."""
        if self._closed:
            raise RunError(f"{self._name} was closed; expected records that are open")
        held = self._open.get(os.getpid())
        if held is None:
            if self._memory not in (None, os.getpid()):
                raise RunError("records in memory are those of another process; expected those of a file")
            connection = in_memory() if self.path is None else in_file(self.path)
            held = self._open[os.getpid()] = _Open(connection, Lock())
        return held

    @contextmanager
    def _using(self) -> Iterator[Connection]:
        """The connection, for this thread alone."""
        held = self._opened()
        with held.lock, sqlite_errors(self._name):
            yield held.connection


def _others(connection: Connection, values: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The keys of rows that are there with another outcome."""
    found = []
    for *key, _, outcome, _, _, _ in values:
        ((kept,),) = connection.execute(KEPT, key)
        same = kept == outcome
        if not same and None not in (kept, outcome):
            same = math.isclose(kept, outcome, rel_tol=SAME)
        if not same:
            found.append(tuple(key))
    return found
