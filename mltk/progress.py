"""How far trainings and downloads are: bars on a terminal, a line in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO, cast

if TYPE_CHECKING:
    from rich.progress import ProgressColumn, TaskID

LINES = 20
"""At most about so many plain lines are printed for one training."""

Progress = Callable[[int, int, float | None], None]
"""Called as ``progress(step, steps, loss)``: at the start, with no loss, and at each logged step."""

StepReport = Callable[[str, int, int, float | None], None]
"""Called as ``report(training, step, steps, loss)``, from any thread."""


class ByteReport(Protocol):
    """Where a download says how it goes."""

    def say(self, text: str) -> None:
        """Tell something that happened."""

    def advance(self, done: int, total: int | None) -> None:
        """Tell that so many bytes are here, of so many in total if that is known."""


@contextmanager
def showing(progress: bool | Progress | None, name: str) -> Iterator[Progress]:
    """What a training calls to show its progress.

    Args:
        progress: A function of the user's own; ``True`` to show it in any case, ``False`` never, ``None`` in
            a notebook and where the standard error is a terminal.
        name: What the training is called.
    """
    if callable(progress):
        yield progress
    elif progress is not False and in_notebook():
        yield NotebookLine(name)
    elif progress is not False and (progress or Forgiving(sys.stderr).isatty()):
        with reporting(sys.stderr) as report:
            yield partial(report, name)
    else:
        yield lambda step, steps, loss: None


@contextmanager
def reporting(file: TextIO | None) -> Iterator[StepReport]:
    """A function that shows how far each training is, with its loss and the time left.

    Args:
        file: Where to: bars if it is a terminal, lines if not. That it is closed or full ends no training.
    """
    file = cast(TextIO, Forgiving(file))
    if not file.isatty():
        yield StepLines(file)
        return
    from rich.progress import MofNCompleteColumn, TextColumn, TimeRemainingColumn

    left = TimeRemainingColumn(compact=True), TextColumn("left")
    with Bars(file, MofNCompleteColumn(), TextColumn("loss {task.fields[loss]}"), *left, loss="…") as bars:

        def report(name: str, step: int, steps: int, loss: float | None) -> None:
            bars.advance(name, step, steps, **({} if loss is None else {"loss": f"{loss:.4g}"}))

        yield report


@contextmanager
def downloading(name: str, file: TextIO | None) -> Iterator[ByteReport]:
    """A report of one download.

    Args:
        name: Of the file that is downloaded.
        file: Where to: a bar if it is a terminal, lines if not; ``None`` for nowhere.
    """
    file = cast(TextIO, Forgiving(file))
    if not file.isatty():
        yield ByteLines(name, file)
        return
    from rich.progress import DownloadColumn, TimeRemainingColumn, TransferSpeedColumn

    with Bars(file, DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(compact=True)) as bars:
        yield ByteBar(name, bars)


class Bars:
    """A bar for each of several jobs, on a terminal; safe from any thread."""

    def __init__(self, file: TextIO, *columns: ProgressColumn, **fields: Any) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self._fields = fields
        self._tasks: dict[str, TaskID] = {}
        self._lock = Lock()
        self._shown = RichProgress(
            TextColumn("{task.description}"), BarColumn(), *columns, console=Console(file=file)
        )

    def __enter__(self) -> Self:
        self._shown.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.stop()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self._shown.console.print(text, markup=False, highlight=False)

    def advance(self, name: str, done: int, total: int | None, **fields: Any) -> None:
        """Show how far a job is, with what else stands beside its bar."""
        with self._lock:
            if name not in self._tasks:
                self._tasks[name] = self._shown.add_task(name, total=total, **self._fields)
        self._shown.update(self._tasks[name], completed=done, total=total, **fields)


class ByteBar:
    """See `ByteReport`."""

    def __init__(self, name: str, bars: Bars) -> None:
        self._name, self._bars = name, bars
        self.advance(0, None)

    def say(self, text: str) -> None:
        """See `ByteReport`."""
        self._bars.say(f"{self._name}: {text}")

    def advance(self, done: int, total: int | None) -> None:
        """See `ByteReport`."""
        self._bars.advance(self._name, done, total)


class Forgiving:
    """A text file that falls silent once it cannot be written, or if there is none."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file
        self._silent = file is None

    def write(self, text: str) -> int:
        """Write, if possible."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Flush, if possible."""
        self._try("flush")

    def isatty(self) -> bool:
        """Whether there is a terminal."""
        return bool(self._try("isatty"))

    def _try(self, method: str, *arguments: str) -> Any:
        try:
            return None if self._silent else getattr(self._file, method)(*arguments)
        except (OSError, ValueError):  # a file that was closed raises ValueError
            self._silent = True
            return None

    def __getattr__(self, name: str) -> Any:
        """Other attributes, such as ``encoding``, are the file's own."""
        return getattr(self._file, name)


def say(text: str, file: TextIO | None) -> None:
    """Print a line if that is possible: all is done by then."""
    print(text, file=cast(TextIO, Forgiving(file)), flush=True)


def in_notebook() -> bool:
    """Whether this runs in a notebook's kernel."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class NotebookLine:
    """One line of text below a notebook's cell, which is replaced as the training goes on."""

    def __init__(self, name: str) -> None:
        self._lines = StepLines(cast(TextIO, self))
        self._name = name
        self._handle: Any = None

    def __call__(self, step: int, steps: int, loss: float | None) -> None:
        """See `Progress`."""
        self._lines(self._name, step, steps, loss)

    def write(self, text: str) -> None:
        """Show a line in place of the one before."""
        from IPython.display import display

        if text.strip():
            bundle = {"text/plain": text.strip()}
            if self._handle is None:
                self._handle = display(bundle, raw=True, display_id=True)
            else:
                self._handle.update(bundle, raw=True)

    def flush(self) -> None:
        """A display is shown at once."""


class StepLines:
    """Prints about `LINES` lines for each training."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._started: dict[str, tuple[int, float]] = {}
        self._printed: dict[str, int] = {}
        self._lock = Lock()

    def __call__(self, name: str, step: int, steps: int, loss: float | None) -> None:
        """See `StepReport`."""
        with self._lock:
            now = time.monotonic()
            first, since = self._started.setdefault(name, (step, now))
            part = step * LINES // steps
            if loss is None or part == self._printed.get(name):
                return
            self._printed[name] = part
            left = (now - since) / max(1, step - first) * (steps - step)
            text = f"{name}: step {step}/{steps}, loss {loss:.4g}, {duration(left)} left"
            print(text, file=self._file, flush=True)


class ByteLines:
    """Prints a line for each tenth of a file, or for every 10 MB if its length is not known."""

    def __init__(self, name: str, file: TextIO) -> None:
        self._name = name
        self._file = file
        self._printed = 0

    def say(self, text: str) -> None:
        """See `ByteReport`."""
        print(f"{self._name}: {text}", file=self._file, flush=True)

    def advance(self, done: int, total: int | None) -> None:
        """See `ByteReport`."""
        part = done * 10 // total if total else done // 10_000_000
        if part > self._printed:
            self.say(f"{part * 10} % of {in_bytes(total)}" if total else in_bytes(done))
        self._printed = part


def duration(seconds: float) -> str:
    """``"1:02:03"``, or ``"2:03"`` below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def in_bytes(size: int | None) -> str:
    """``"9.5 MB"``: a number of bytes to two or three digits; ``"?"`` if it is not known."""
    if size is None:
        return "?"
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            number = size / factor
            return f"{number:.0f} {unit}" if number >= 99.5 else f"{number:.1f} {unit}"
    return f"{size} bytes"
