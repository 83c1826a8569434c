"""Progress of trainings: bars on a terminal, a line in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, TextIO, cast

LINES = 20
"""At most about so many plain lines are printed for one training."""

Progress = Callable[[int, int, float | None], None]
"""Called as ``progress(step, steps, loss)``: at the start, with no loss, and at each logged step."""

Report = Callable[[str, int, int, float | None], None]
"""Called as ``report(training, step, steps, loss)``, from any thread."""


@contextmanager
def showing(progress: bool | Progress | None, name: str) -> Iterator[Progress | None]:
    """What a training calls to show its progress.

    Args:
        progress: A function of the user's own; ``True`` to show it in any case, ``False`` never, ``None`` in
            a notebook and where the standard error is a terminal.
        name: What the training is called.
    """
    if callable(progress):
        yield progress
    elif progress is False:
        yield None
    elif in_notebook():
        yield NotebookLine(name)
    elif progress is True or Forgiving(sys.stderr).isatty():
        with reporting(sys.stderr) as report:
            yield lambda step, steps, loss: report(name, step, steps, loss)
    else:
        yield None


@contextmanager
def reporting(file: TextIO | None) -> Iterator[Report]:
    """A function that shows how far each training is, with its loss and the time left.

    Args:
        file: Where to: bars if it is a terminal, lines if not. That it is closed or full ends no training.
    """
    file = cast(TextIO, Forgiving(file))
    if not file.isatty():
        yield PlainLines(file)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        console=Console(file=file),
    )
    tasks: dict[str, TaskID] = {}
    lock = Lock()

    def report(name: str, step: int, steps: int, loss: float | None) -> None:
        with lock:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=steps, completed=step, loss="…")
        bars.update(tasks[name], completed=step)
        if loss is not None:
            bars.update(tasks[name], loss=f"{loss:.4g}")

    with bars:
        yield report


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
        self._lines = PlainLines(cast(TextIO, self))
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


class PlainLines:
    """Prints about `LINES` lines for each training."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._started: dict[str, tuple[int, float]] = {}
        self._printed: dict[str, int] = {}
        self._lock = Lock()

    def __call__(self, name: str, step: int, steps: int, loss: float | None) -> None:
        """See `Report`."""
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


def duration(seconds: float) -> str:
    """``"1:02:03"``, or ``"2:03"`` below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
