"""A candidate in a process of its own, which is killed when it hangs and started anew when it is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any, Self

from mltk.oracle.calling import Outcome, Problem, request
from mltk.oracle.case import Case
from mltk.oracle.computation import Computation
from mltk.oracle.loading import Ability, CandidateError
from mltk.oracle.messages import LONGEST, MessageError, from_line, pack_request, to_line, unpack_outcome

START = 120.0
"""Seconds for importing a candidate and its libraries."""

GRACE = 2.0
"""Seconds after the time limit in which the process may still say where it hangs."""

POLL = 0.2
"""Seconds between looks at whether a silent process is still there."""

TAIL = 40
"""Lines that are kept of what a candidate prints."""

LINE = 2000
"""Bytes that are kept of each."""


class WorkerRunner(ABC):
    """What runners share that ask a process, which is started when it is needed and ended by `close`."""

    _worker: Worker | None = None

    @abstractmethod
    def _ready(self) -> Worker:
        """The running process, or a new one."""

    def restart(self) -> bool:
        """See `mltk.oracle.candidate.Runner.restart`."""
        self.close()
        return True

    def close(self) -> None:
        """End the process and all its children."""
        if self._worker is not None:
            self._worker.kill()
        self._worker = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Process(WorkerRunner):
    """A runner; see `mltk.oracle.candidate.Runner`.

    Args:
        candidate: ``package.module:function``, ``path/to/file.py:function`` or the name of a peer.
        arrays: The library of the candidate's arrays.
        dtype: Their precision.
        timeout: Seconds for a call.

    Raises:
        CandidateError: If the candidate cannot be imported.
    """

    def __init__(self, candidate: str, *, arrays: str, dtype: str, timeout: float) -> None:
        self._setup = {"candidate": candidate, "arrays": arrays, "dtype": dtype}
        self._timeout = timeout
        self._ready()

    def run(self, computation: Computation, case: Case) -> Outcome:
        """See `mltk.oracle.candidate.Runner.run`."""
        worker = self._ready()
        if (refusal := worker.ability.refusal(computation.name)) is not None:
            return Outcome(None, refusal)
        message = {**pack_request(request(computation, case)), "timeout": self._timeout}
        try:
            answer = worker.ask(message, self._timeout + GRACE)
            if answer is not None and "hangs" not in answer:
                return unpack_outcome(answer)
        except MessageError as error:
            self.close()
            return Outcome(None, Problem("malformed", f"its process does not answer as it should: {error}"))
        self.close()
        if worker.gone:
            return Outcome(None, Problem("crashes", worker.ending()))
        place = answer["hangs"] if answer is not None else ""
        return Outcome(None, Problem("hangs", f"no answer within {self._timeout:g} seconds{place}"))

    def _ready(self) -> Worker:
        """A process that has imported the candidate."""
        if self._worker is None:
            self._worker = Worker()
            try:
                answer = self._worker.ask(self._setup, START)
            except MessageError as error:
                self.close()
                raise CandidateError(f"{self._setup['candidate']} does not answer: {error}") from error
            if answer is None or "error" in answer:
                worker = self._worker
                self.close()
                if answer is not None:
                    raise CandidateError(answer["error"])
                why = f"the process {worker.ending()}" if worker.gone else f"it takes more than {START:g} s"
                raise CandidateError(f"{self._setup['candidate']} cannot be imported: {why}")
            self._worker.ability = Ability(answer["computations"], answer["absent"])
        return self._worker


class Worker:
    """A running process that answers, `mltk.oracle.worker` or another.

    Args:
        command: The program and its arguments.

    Attributes:
        gone: Whether it ended by itself.
        ability: What the candidate can be asked.
    """

    def __init__(self, command: Sequence[str] = (sys.executable, "-m", "mltk.oracle.worker")) -> None:
        # A session of its own makes it and all its children a group, and keeps Ctrl-C from it.
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self.gone = False
        self.ability = Ability()
        self._asked = 0
        self._answers: SimpleQueue[bytes] = SimpleQueue()
        self._printed: deque[bytes] = deque(maxlen=TAIL)
        self._readers = [
            Thread(target=self._read_answers, args=(self._process.stdout,), daemon=True),
            Thread(target=self._read_prints, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def asked(self) -> int:
        """How many questions it was asked."""
        return self._asked

    def ask(self, message: dict[str, Any], timeout: float) -> dict[str, Any] | None:
        """Its answer; ``None`` if there is none in time, or it ends.

        Raises:
            MessageError: If it prints a line that is no answer.
        """
        assert self._process.stdin is not None
        end = time.monotonic() + timeout
        self._asked += 1
        with contextlib.suppress(OSError):  # it may have ended; then there is no answer
            self._process.stdin.write(to_line({**message, "id": self._asked}))
            self._process.stdin.flush()
        while (left := end - time.monotonic()) > 0:
            ended = self._process.poll() is not None
            if ended:
                self._readers[0].join(POLL)  # what it said last; a child may hold the pipe open
            with contextlib.suppress(Empty):
                answer = from_line(self._answers.get(timeout=0 if ended else min(left, POLL)))
                if "id" not in answer:
                    raise MessageError("the answer has no id")
                if answer["id"] == self._asked:  # not one that came too late
                    return answer
                continue
            if ended:
                self.gone = True
                return None
        return None

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
        status = self._process.returncode
        if status < 0:
            try:
                how = f"was killed by {signal.Signals(-status).name}"
            except ValueError:
                how = f"was killed by signal {-status}"
        else:
            how = f"ended with exit status {status}"
        lines = [line.decode(errors="replace").rstrip() for line in self._printed]
        last = [line for line in lines if line.strip()][-3:]
        return "\n  ".join([how, *(f"printed: {line}" for line in last)])

    def _read_answers(self, file: IO[bytes]) -> None:
        while line := file.readline(LONGEST):
            self._answers.put(line)

    def _read_prints(self, file: IO[bytes]) -> None:
        while line := file.readline(LINE):
            self._printed.append(line)
