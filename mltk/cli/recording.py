"""The option `--records`: a file of records that a command writes to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from mltk.cli.out import file_option
from mltk.watching import Watch, watchers

RecordsFile = Annotated[Path | None, file_option("Records to add rows to.", "--records")]


@contextmanager
def recording(path: Path | None, run: str) -> Iterator[Watch]:
    """Who watches a command: what writes to the file, if there is one."""
    if path is None:
        yield ()
        return
    from mltk.toolkit.records import Records

    with Records(path) as records:
        yield records.watcher(run=run)


def with_monitor(watch: Watch) -> Watch:
    """A monitor that prints its alerts, beside whoever watches."""
    from mltk.toolkit.monitor import Monitor

    return (*watchers(watch), Monitor())
