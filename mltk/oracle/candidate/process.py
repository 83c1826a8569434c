"""A candidate in a process of its own, which is killed when it hangs and started anew when it is gone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from mltk.messages import MessageError
from mltk.oracle.candidate.loading import Ability, CandidateError
from mltk.oracle.candidate.request import Outcome, Problem, pack_request, request, unpack_outcome
from mltk.oracle.case import Case
from mltk.oracle.computation import Computation
from mltk.workers import GRACE, Worker, module

START = 120.0
"""Seconds for importing a candidate and its libraries."""


class WorkerRunner(ABC):
    """What runners share that ask a process, which is started when it is needed and ended by `close`."""

    _worker: Worker | None = None

    @abstractmethod
    def _ready(self) -> Worker:
        """The running process, or a new one."""

    def restart(self) -> bool:
        """See `mltk.oracle.candidate.runner.Runner.restart`."""
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
    """A runner; see `mltk.oracle.candidate.runner.Runner`.

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
        self._ability = Ability()
        self._ready()

    def run(self, computation: Computation, case: Case) -> Outcome:
        """See `mltk.oracle.candidate.runner.Runner.run`."""
        worker = self._ready()
        if (refusal := self._ability.refusal(computation.name)) is not None:
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
            self._worker = Worker(module("mltk.oracle.candidate.worker"))
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
            self._ability = Ability(answer["computations"], answer["absent"])
        return self._worker
