"""Ctrl-C and the end of a process as wishes that a training meets between two steps."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from mltk.progress import say

HANDLERS: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""The signals that ask a training to stop, with the handlers that are replaced: a user's own ones are not."""

if sys.platform != "win32":
    HANDLERS[signal.SIGHUP] = signal.SIG_DFL  # the terminal was closed; nohup has it ignored


class TerminatedError(SystemExit):
    """A signal has ended trainings whose checkpoints are written; the process ends with 128 + its number.

    Attributes:
        status: With what the process ends.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Interruption:
    """Notes signals that ask to stop, instead of having them strike in the middle of a step.

    Use it in a ``with`` statement. A second Ctrl-C strikes at once. In a thread that is not the main one
    nothing is noted: signals are not for it.

    Attributes:
        signal: The number of the signal that was received; ``None`` before.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Take over the signals whose handlers are Python's own."""
        if threading.current_thread() is threading.main_thread():
            for number, usual in HANDLERS.items():
                if signal.getsignal(number) is usual:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop(self, where: str) -> BaseException:
        """The exception that ends the training: `KeyboardInterrupt` for Ctrl-C, else `TerminatedError`.

        Args:
            where: What was reached, and how to go on.
        """
        assert self.signal is not None
        message = f"stopped by {signal.Signals(self.signal).name} {where}"
        if self.signal == signal.SIGINT:
            return KeyboardInterrupt(message)
        # The end of a process that SystemExit brings about says nothing by itself.
        say(message, sys.stderr)
        return TerminatedError(128 + self.signal)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self.signal == signal.SIGINT:
            raise KeyboardInterrupt("stopped at once")
        self.signal = number


@contextmanager
def terminating() -> Iterator[None]:
    """Have a signal that ends this process raise `TerminatedError`, as Ctrl-C raises `KeyboardInterrupt`.

    In a thread that is not the main one, and where the program handles these signals itself, nothing changes.
    """

    def strike(number: int, frame: FrameType | None) -> None:
        raise TerminatedError(128 + number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number, usual in HANDLERS.items():
            if number != signal.SIGINT and signal.getsignal(number) is usual:
                before[number] = signal.signal(number, strike)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
