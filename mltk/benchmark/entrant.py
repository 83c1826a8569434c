"""A contestant that is ready to be timed: in this process, or in one of its own.

Each contestant of a run has a process of its own, as its users would run it, and waits there for its turn:
in one process, the idle threads of one library keep cores from another's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mltk.benchmark.cases import build, in_double
from mltk.benchmark.contestants import choose
from mltk.benchmark.timing import seconds_of
from mltk.errors import UnsupportedError
from mltk.messages import pack, unpack
from mltk.peers import Case, Peer, to_numpy
from mltk.workers import Worker, module, questions


class Local:
    """A contestant in this process; see `mltk.benchmark.timing.Entrant`.

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
    """A contestant in a process of its own; see `mltk.benchmark.timing.Entrant`.

    Raises:
        UnsupportedError: If it is not installed or cannot express the model.
        RuntimeError: If it raises another error, or its process ends.
    """

    def __init__(self, benchmark: str, name: str, settings: dict[str, int]) -> None:
        self._worker = Worker(module("mltk.benchmark.entrant"))
        try:
            answer = self._ask({"benchmark": benchmark, "name": name, "settings": settings})
            self.gradient: dict[str, np.ndarray] = unpack(answer["gradient"])
        except BaseException:
            self.close()
            raise

    def gradient_in_double(self) -> dict[str, np.ndarray]:
        """See `Entrant.gradient_in_double`."""
        return unpack(self._ask({})["gradient"])

    def sample(self, times: int) -> float:
        """See `Entrant.sample`."""
        return float(self._ask({"times": times})["seconds"])

    def close(self) -> None:
        """See `Entrant.close`."""
        self._worker.kill()

    def _ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        answer = self._worker.ask(question)
        if answer is None:
            raise RuntimeError(f"its process {self._worker.ending()}")
        if "unsupported" in answer:
            raise UnsupportedError(answer["unsupported"])
        if "failed" in answer:
            raise RuntimeError(answer["failed"])
        return answer


def _main() -> None:
    """The process of a `Remote`: is told who it is, then asked for samples or for the gradient in float64."""
    asked = questions()
    who, answer = next(asked)
    try:
        (contestant,) = choose(who["benchmark"], [who["name"]])
        local = Local(contestant, build(who["benchmark"], **who["settings"]))
        answer({"gradient": pack(local.gradient)})
        for question, answer in asked:
            if "times" in question:
                answer({"seconds": local.sample(question["times"])})
            else:
                answer({"gradient": pack(local.gradient_in_double())})
    except UnsupportedError as error:
        answer({"unsupported": str(error)})
    except Exception as error:
        answer({"failed": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    _main()
