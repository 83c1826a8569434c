"""Processes that are asked, and answer lines of JSON: candidates of the oracle, contestants, trainings.

One that asks holds a `Worker`; a module of mltk that answers loops over `questions`. Both end cleanly: a
worker is killed with its children when it hangs, and ends by itself when nobody listens any more.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import IO, Any, BinaryIO, Self

from mltk.messages import LONGEST, MessageError, from_line, to_line

GRACE = 2.0
"""Seconds in which a worker may still write down what it has, or say where it hangs."""

POLL = 0.2
"""Seconds between looks at whether a silent process is still there."""

TAIL = 40
"""Lines that are kept of what a process prints."""

LINE = 2000
"""Bytes that are kept of each."""

SHOWN = 3
"""How many of the last lines tell how it ended."""

THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
"""Environment variables that say to a library, when it is loaded, how many threads it has."""


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def module(name: str) -> list[str]:
    """The command that runs a module of mltk, whatever the files of the present folder are called."""
    return [sys.executable, "-P", "-m", name]


class Worker:
    """A running process that is asked; a context manager that kills it.

    Args:
        command: The program and its arguments. It reads a question a line on its standard input, and prints
            answers with the question's ``id``. What it prints as errors is kept for `ending`.
        environment: Its environment variables; by default those of this process.

    Attributes:
        asked: How many questions it was asked.
        gone: Whether it was found to have ended by itself.

    Raises:
        OSError: If it cannot be started.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> None:
        # A session of its own makes it and all its children a group, and keeps Ctrl-C from it.
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self.asked = 0
        self.gone = False
        self._answers: SimpleQueue[bytes] = SimpleQueue()
        self._printed: deque[bytes] = deque(maxlen=TAIL)
        self._readers = [
            _in_thread(_read, self._process.stdout, LONGEST, self._answers.put),
            _in_thread(_read, self._process.stderr, LINE, self._printed.append),
        ]

    def ask(self, question: Mapping[str, Any], timeout: float = math.inf) -> dict[str, Any] | None:
        """The first answer; ``None`` if there is none within ``timeout`` seconds, or the process ends.

        Raises:
            MessageError: If it prints a line that is no answer.
        """
        return next(self.answers(question, timeout), None)

    def answers(self, question: Mapping[str, Any], timeout: float = math.inf) -> Iterator[dict[str, Any]]:
        """One answer after the other, until ``timeout`` seconds have passed or the process ends.

        Raises:
            MessageError: If it prints a line that is no answer.
        """
        end = time.monotonic() + timeout
        self.asked += 1
        number = self.asked
        # In a thread, since one that hangs may not read, either.
        _in_thread(self._write, to_line({**question, "id": number}))
        while (left := end - time.monotonic()) > 0:
            ended = self._process.poll() is not None
            if ended:
                self._readers[0].join(POLL)  # what it said last; a child may hold the pipe open
            try:
                answer = from_line(self._answers.get(timeout=0 if ended else min(left, POLL)))
            except Empty:
                if ended:
                    self.gone = True
                    return
                continue
            if "id" not in answer:
                raise MessageError("the answer has no id")
            if answer["id"] == number:  # not one that came too late
                yield answer

    def terminate(self) -> None:
        """Ask it to end: it may write down first what it has."""
        self._process.terminate()

    def kill(self) -> None:
        """End it and all its children."""
        if os.name == "nt":
            command = ["taskkill", "/F", "/T", "/PID", str(self._process.pid)]
            subprocess.run(command, capture_output=True, check=False)
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(POLL)

    def ending(self) -> str:
        """How it ended, and the last that it printed."""
        status = self._process.wait()
        if status < 0:
            try:
                how = f"was killed by {signal.Signals(-status).name}"
            except ValueError:
                how = f"was killed by signal {-status}"
        else:
            how = f"ended with exit status {status}"
        lines = [line.decode(errors="replace").rstrip() for line in self._printed]
        last = [line for line in lines if line.strip()][-SHOWN:]
        return "\n  ".join([how, *(f"printed: {line}" for line in last)])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _write(self, line: bytes) -> None:
        file = self._process.stdin
        assert file is not None
        try:
            file.write(line)
            file.flush()
        except (OSError, ValueError):  # it has ended; then there is no answer
            with contextlib.suppress(OSError):
                file.close()


def questions() -> Iterator[tuple[dict[str, Any], Callable[[Mapping[str, Any]], None]]]:
    """In a worker, what it is asked, each with the function that answers it.

    Any thread may answer, and a signal handler, too, even one that interrupts an answer.

    From the first question on, the standard input is empty and what is printed goes where errors go, so that
    neither the code that is called nor its children can disturb the conversation. Once nobody listens any
    more, the process gets SIGTERM, and a little later it ends in any case.
    """
    incoming, outgoing = _private_files()
    lines: SimpleQueue[bytes] = SimpleQueue()
    waiting: deque[bytes] = deque()
    lock = Lock()

    def listen() -> None:
        _read(incoming, LONGEST, lines.put)
        _end()

    def write() -> None:
        while waiting:
            outgoing.write(waiting.popleft())
            outgoing.flush()

    def answers(number: int) -> Callable[[Mapping[str, Any]], None]:
        def answer(message: Mapping[str, Any]) -> None:
            waiting.append(to_line({**message, "id": number}))
            # Whoever holds the lock writes this line, too: a signal handler would wait for itself.
            while waiting and lock.acquire(blocking=False):
                try:
                    write()
                except BaseException:  # of a handler that has left a line and ends the process
                    write()
                    raise
                finally:
                    lock.release()

        return answer

    _in_thread(listen)
    while True:
        question = from_line(lines.get())
        yield question, answers(question["id"])


def _private_files() -> tuple[BinaryIO, BinaryIO]:
    """The two ends of the conversation, which others in this process cannot reach by accident."""
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return incoming, outgoing


def _end() -> None:
    """End this process, even one that hangs, with its children where it is the first of their group."""
    if hasattr(os, "killpg") and os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGTERM)
        time.sleep(GRACE)
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _read(file: IO[bytes] | None, longest: int, keep: Callable[[bytes], None]) -> None:
    assert file is not None
    while line := file.readline(longest):
        keep(line)


def _in_thread(function: Callable[..., None], *arguments: Any) -> Thread:
    thread = Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread
