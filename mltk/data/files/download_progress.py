"""How far a download is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO


class Report(Protocol):
    """Where a download says how it goes."""

    def say(self, text: str) -> None:
        """Tell something that happened."""

    def advance(self, done: int, total: int | None) -> None:
        """Tell that so many bytes are here, of so many in total if that is known."""


class Silence:
    """Says nothing."""

    def say(self, text: str) -> None:
        """See `Report`."""

    def advance(self, done: int, total: int | None) -> None:
        """See `Report`."""


class PlainLines:
    """Prints a line for each tenth of the file, or for every 10 MB if its length is not known."""

    def __init__(self, name: str, file: TextIO) -> None:
        self._name = name
        self._file = file
        self._printed = 0

    def say(self, text: str) -> None:
        """See `Report`."""
        print(f"{self._name}: {text}", file=self._file, flush=True)

    def advance(self, done: int, total: int | None) -> None:
        """See `Report`."""
        part = done * 10 // total if total else done // 10_000_000
        if part > self._printed:
            self.say(f"{part * 10} % of {in_words(total)}" if total else in_words(done))
        self._printed = part


@contextmanager
def reporting(name: str, file: TextIO | None) -> Iterator[Report]:
    """A report of one download.

    Args:
        name: Of the file that is downloaded.
        file: Where to: a bar if it is a terminal, lines if not; ``None`` for nowhere.
    """
    if file is None:
        yield Silence()
        return
    if not file.isatty():
        yield PlainLines(name, file)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=Console(file=file),
    )
    task = bar.add_task(name, total=None)

    class Bar:
        def say(self, text: str) -> None:
            bar.console.print(f"{name}: {text}", markup=False, highlight=False)

        def advance(self, done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

    with bar:
        yield Bar()


def in_words(size: int | None) -> str:
    """``"9.5 MB"``: a number of bytes to two or three digits; ``"?"`` if it is not known."""
    if size is None:
        return "?"
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            number = size / factor
            return f"{number:.0f} {unit}" if number >= 99.5 else f"{number:.1f} {unit}"
    return f"{size} bytes"
