"""The option `--records`: a file of records that a command writes to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mltk.cli.out import file
from mltk.watching import Watch, watchers

RecordsFile = Annotated[
    Path | None,
    typer.Option(
        "--records", parser=file, metavar="<path>", help="Records to add rows to.", show_default=False
    ),
]


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
