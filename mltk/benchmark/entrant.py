"""A contestant that is ready to be timed: in this process, or in one of its own.

Each contestant of a run has a process of its own, as its users would run it, and waits there for its turn:
in one process, the idle threads of one library keep cores from another's.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mltk.benchmark.cases import build, in_double
from mltk.benchmark.contestants import choose
from mltk.errors import UnsupportedError
from mltk.peers import Case, Peer, to_numpy


class Entrant(Protocol):
    """A contestant that is ready to be timed.

    Attributes:
        gradient: What it computes, under dotted names.
    """

    gradient: dict[str, np.ndarray]

    def gradient_in_double(self) -> dict[str, np.ndarray]:
        """The gradient of the same numbers in float64."""

    def sample(self, times: int) -> float:
        """Seconds of one call, measured over a block of ``times`` calls."""

    def close(self) -> None:
        """End it."""


def seconds_of(call: Callable[[], object], times: int) -> float:
    """Seconds of one call, measured over a block; a call before the block brings caches and threads back."""
    call()
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in range(times):
            call()
        return (time.perf_counter() - start) / times
    finally:
        gc.enable()


class Local:
    """A contestant in this process.

    Raises:
        UnsupportedError: If it is not installed or cannot express the model.
    """

    def __init__(self, contestant: Peer, case: Case) -> None:
        reason = contestant.available()
        if reason is not None:
            raise UnsupportedError(reason)
        self._contestant, self._case = contestant, case
        self._call = contestant.prepare(case)
        _, self.gradient = to_numpy(self._call())

    def gradient_in_double(self) -> dict[str, np.ndarray]:
        """See `Entrant.gradient_in_double`."""
        return to_numpy(self._contestant.prepare(in_double(self._case))())[1]

    def sample(self, times: int) -> float:
        """See `Entrant.sample`."""
        return seconds_of(self._call, times)

    def close(self) -> None:
        """See `Entrant.close`."""


class Remote:
    """A contestant in a process of its own.

    Raises:
        UnsupportedError: If it is not installed or cannot express the model.
        RuntimeError: If it raises another error, or its process ends.
    """

    def __init__(self, benchmark: str, name: str, settings: dict[str, int]) -> None:
        request = {"benchmark": benchmark, "name": name, "settings": settings}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mltk.benchmark.entrant", json.dumps(request)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            self._answer()
            self.gradient = self._gradient("single")
        except BaseException:
            self.close()
            raise

    def gradient_in_double(self) -> dict[str, np.ndarray]:
        """See `Entrant.gradient_in_double`."""
        return self._gradient("double")

    def sample(self, times: int) -> float:
        """See `Entrant.sample`."""
        return self._ask(times)

    def close(self) -> None:
        """See `Entrant.close`."""
        self._process.kill()
        self._process.communicate()

    def _gradient(self, precision: str) -> dict[str, np.ndarray]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"{precision}.npz")
            self._ask(str(path))
            with np.load(path) as arrays:
                return dict(arrays)

    def _ask(self, question: int | str) -> float:
        assert self._process.stdin is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> float:
        """The next line of the process: a number, or what it raised."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"its process ended with status {self._process.wait()}")
        answer = json.loads(line)
        if "unsupported" in answer:
            raise UnsupportedError(answer["unsupported"])
        if "failed" in answer:
            raise RuntimeError(answer["failed"])
        return float(answer["seconds"])


def _main(text: str) -> None:
    """The process of a `Remote`, which answers each line.

    A number asks for a sample of so many calls, a path for a gradient, whose precision the name tells.
    """
    request = json.loads(text)

    def answer(**content: object) -> None:
        print(json.dumps(content), flush=True)

    try:
        benchmark = request["benchmark"]
        (contestant,) = choose(benchmark, [request["name"]])
        local = Local(contestant, build(benchmark, **request["settings"]))
        answer(seconds=0.0)
        for line in sys.stdin:
            question = json.loads(line)
            if isinstance(question, int):
                answer(seconds=local.sample(question))
                continue
            double = Path(question).stem == "double"
            arrays: dict[str, Any] = local.gradient_in_double() if double else local.gradient
            np.savez(question, **arrays)
            answer(seconds=0.0)
    except UnsupportedError as error:
        answer(unsupported=str(error))
    except Exception as error:
        answer(failed=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    _main(sys.argv[1])
