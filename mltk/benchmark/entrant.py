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
from pathlib import Path
from typing import Protocol

import numpy as np

from mltk.benchmark.cases import build
from mltk.benchmark.contestants import choose
from mltk.errors import UnsupportedError
from mltk.peers import Case, Peer, to_numpy


class Entrant(Protocol):
    """A contestant that is ready to be timed.

    Attributes:
        gradient: What it computes, under dotted names.
    """

    gradient: dict[str, np.ndarray]

    def sample(self, times: int) -> float:
        """Seconds of one call, measured over a block of ``times`` calls."""

    def close(self) -> None:
        """End it."""


class Local:
    """A contestant in this process.

    Raises:
        UnsupportedError: If it is not installed or cannot express the model.
    """

    def __init__(self, contestant: Peer, case: Case) -> None:
        reason = contestant.available()
        if reason is not None:
            raise UnsupportedError(reason)
        self._call = contestant.prepare(case)
        _, self.gradient = to_numpy(self._call())

    def sample(self, times: int) -> float:
        """See `Entrant.sample`; a call before the block brings caches and threads back."""
        self._call()
        gc.collect()
        gc.disable()
        try:
            start = time.perf_counter()
            for _ in range(times):
                self._call()
            return (time.perf_counter() - start) / times
        finally:
            gc.enable()

    def close(self) -> None:
        """See `Entrant.close`."""


class Remote:
    """A contestant in a process of its own.

    Raises:
        UnsupportedError: If it is not installed or cannot express the model.
        RuntimeError: If it raises another error, or its process ends.
    """

    def __init__(self, benchmark: str, name: str, settings: dict[str, int]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "gradient.npz")
            request = {"benchmark": benchmark, "name": name, "settings": settings, "path": str(path)}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mltk.benchmark.entrant", json.dumps(request)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            try:
                self._answer()
                with np.load(path) as arrays:
                    self.gradient = dict(arrays)
            except BaseException:
                self.close()
                raise

    def sample(self, times: int) -> float:
        """See `Entrant.sample`."""
        assert self._process.stdin is not None
        print(times, file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """See `Entrant.close`."""
        self._process.kill()
        self._process.communicate()

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
    """The process of a `Remote`: ready once the gradient is written, then a sample for each line."""
    request = json.loads(text)

    def answer(**content: object) -> None:
        print(json.dumps(content), flush=True)

    try:
        (contestant,) = choose([request["name"]])
        local = Local(contestant, build(request["benchmark"], **request["settings"]))
        np.savez(request["path"], **local.gradient)
        answer(seconds=0.0)
        for line in sys.stdin:
            answer(seconds=local.sample(int(line)))
    except UnsupportedError as error:
        answer(unsupported=str(error))
    except Exception as error:
        answer(failed=f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    _main(sys.argv[1])
