"""The process of a candidate: is asked, calls it, answers. See `mltk.oracle.candidate.process`."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Timer, main_thread
from typing import Any

from mltk.oracle.candidate.calling import call, places, stack
from mltk.oracle.candidate.conversion import converter
from mltk.oracle.candidate.loading import CandidateError, Loaded, find
from mltk.oracle.candidate.request import pack_outcome, unpack_request
from mltk.workers import questions


def main() -> None:
    """Load a candidate, as the first question says, and call it for each of the others."""
    asked = questions()
    setup, answer = next(asked)
    sys.path.insert(0, os.getcwd())
    arrays, dtype = setup["arrays"], setup["dtype"]
    try:
        loaded = find(setup["candidate"])
        arrays = loaded.arrays or arrays
        if loaded.ability.absent is None:
            _import_library(arrays, dtype)
    except CandidateError as error:
        answer({"error": str(error)})
        return
    answer(dataclasses.asdict(loaded.ability))
    for question, answer in asked:
        _call(question, answer, loaded, arrays=arrays, dtype=dtype)


def _call(
    question: Mapping[str, Any],
    answer: Callable[[Mapping[str, Any]], None],
    loaded: Loaded,
    *,
    arrays: str,
    dtype: str,
) -> None:
    asked = unpack_request(question)
    function, folder = loaded.function_for(asked.computation), loaded.folder
    clock = Timer(question["timeout"], lambda: answer({"hangs": _place(folder)}))
    clock.daemon = True
    clock.start()
    outcome = call(function, asked, arrays=arrays, dtype=dtype, folder=folder)
    clock.cancel()
    answer(pack_outcome(outcome))


def _place(folder: Path | None) -> str:
    """Where the candidate is at the moment."""
    return places(stack(sys._current_frames().get(main_thread().ident or 0)), folder)


def _import_library(arrays: str, dtype: str) -> None:
    """Import the library of the arrays now, so that the first call is not charged for it."""
    try:
        converter(arrays, dtype)
    except ImportError as error:
        raise CandidateError(f"arrays={arrays!r}: {error}") from error


if __name__ == "__main__":
    main()
