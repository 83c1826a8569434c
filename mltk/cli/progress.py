"""Progress of trainings: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LINES = 20
"""At most about so many plain lines are printed for one training."""

Report = Callable[[str, int, int, float | None], None]
"""Called as ``report(training, step, steps, loss)``, from any thread."""


@contextmanager
def reporting(file: TextIO) -> Iterator[Report]:
    """A function that shows how far each training is, with its loss and the time left.

    Args:
        file: Where to: bars if it is a terminal, lines if not.
    """
    if not file.isatty():
        yield PlainLines(file)
        return
    bars = Progress(
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
