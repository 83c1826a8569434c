"""Candidates in any language: a program that reads requests on its standard input and answers on its output.

A request and an answer are a line of JSON each. See the page on the check for a complete program.
"""

from __future__ import annotations

import pprint
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mltk.messages import MessageError
from mltk.oracle.candidate.calling import outcome_of
from mltk.oracle.candidate.loading import CandidateError
from mltk.oracle.candidate.process import WorkerRunner
from mltk.oracle.candidate.request import Outcome, Problem, Request, request
from mltk.oracle.case import Case
from mltk.oracle.computation import Computation
from mltk.workers import Worker

FIRST = 60.0
"""Seconds more for the first answer of a program, which has to start."""

WIDTH = 100


@dataclass(frozen=True)
class Command:
    """A candidate that is a program.

    Attributes:
        text: How a shell would start it: ``"node my.js"``.
    """

    text: str

    @property
    def words(self) -> list[str]:
        """The program and its arguments.

        Raises:
            CandidateError: If there is none.
        """
        try:
            words = shlex.split(self.text)
        except ValueError as error:
            raise CandidateError(f"the command is {self.text!r}: {error}") from error
        if not words:
            raise CandidateError("the command is empty; expected a program and its arguments")
        return words


class CommandRunner(WorkerRunner):
    """A runner; see `mltk.oracle.candidate.runner.Runner`.

    Args:
        command: The candidate.
        dtype: To whose precision the inputs are rounded.
        timeout: Seconds for a call.

    Raises:
        CandidateError: If it cannot be started.
    """

    def __init__(self, command: Command, *, dtype: str, timeout: float) -> None:
        self._words, self._dtype, self._timeout = command.words, dtype, timeout
        self._ready()

    def run(self, computation: Computation, case: Case) -> Outcome:
        """See `mltk.oracle.candidate.runner.Runner.run`."""
        worker = self._ready()
        asked = request(computation, case)
        timeout = self._timeout if worker.asked else self._timeout + FIRST
        try:
            answer = worker.ask(as_message(asked, self._dtype), timeout)
        except MessageError as error:
            self.close()
            return Outcome(None, Problem("malformed", f"it prints what is no answer: {error}"))
        if answer is not None:
            return answered(answer, asked, self._dtype)
        self.close()
        if worker.gone:
            return Outcome(None, Problem("crashes", worker.ending()))
        hint = "is each line flushed, and its id that of the request?"
        return Outcome(None, Problem("hangs", f"no answer within {timeout:g} seconds: {hint}"))

    def _ready(self) -> Worker:
        if self._worker is None:
            try:
                self._worker = Worker(self._words)
            except OSError as error:
                raise CandidateError(f"{self._words[0]} cannot be started: {error}") from error
        return self._worker


def as_message(asked: Request, dtype: str) -> dict[str, Any]:
    """A request in plain JSON: arrays are nested lists, and ``null`` is a number that is not finite."""
    return {
        "computation": asked.computation,
        "settings": dict(asked.settings),
        "inputs": _lists(asked.inputs, dtype),
        "outputs": list(asked.outputs),
    }


def answered(answer: Mapping[str, Any], asked: Request, dtype: str) -> Outcome:
    """What an answer says: ``outputs``, ``unsupported`` or ``error``."""
    if "unsupported" in answer:
        return Outcome(None, Problem("unsupported", str(answer["unsupported"])))
    if "error" in answer:
        return Outcome(None, Problem("raises", str(answer["error"])))
    if "outputs" not in answer:
        return Outcome(
            None, Problem("malformed", "the answer has none of outputs, unsupported and error in it")
        )
    try:
        outputs = _arrays(answer["outputs"])
    except (TypeError, ValueError, OverflowError) as error:
        return Outcome(None, Problem("malformed", f"the outputs are no numbers: {error}"))
    return outcome_of(outputs, asked, dtype)


def snippet(command: Command, computation: Computation, case: Case, dtype: str, *, calls: int = 1) -> str:
    """Python code that sends a case to the program, and prints its answers and what is expected."""
    message = as_message(request(computation, case), dtype)
    expected = _lists(case.expected, "float64")

    def shown(value: Any) -> str:
        return pprint.pformat(value, width=WIDTH, compact=True, sort_dicts=False)

    return "\n".join(
        [
            "import json",
            "import subprocess\n",
            f"command, folder = {command.words!r}, {str(Path.cwd())!r}",
            f"request = {shown(message)}",
            f"expected = {shown(expected)}\n",
            f'lines = [json.dumps({{**request, "id": i}}) + "\\n" for i in range(1, {calls + 1})]',
            'run = subprocess.run(command, cwd=folder, input="".join(lines), capture_output=True, text=True)',
            'print("found   ", run.stdout, run.stderr)',
            'print("expected", expected)\n',
        ]
    )


def _lists(values: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    return {
        name: _lists(value, dtype)
        if isinstance(value, Mapping)
        else _finite(value.astype(dtype) if value.dtype.kind == "f" else value)
        for name, value in values.items()
    }


def _finite(array: np.ndarray) -> Any:
    """Nested lists; JSON has no NaN and no infinity, and few of its readers take Python's."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array.tolist()
    numbers = array.astype(object)
    numbers[~np.isfinite(array)] = None
    return numbers.tolist()


def _arrays(value: Any) -> Any:
    """Nested lists as arrays; ``null`` is NaN, which some languages write so."""
    if isinstance(value, Mapping):
        return {name: _arrays(each) for name, each in value.items()}
    return np.asarray(value, np.float64)
