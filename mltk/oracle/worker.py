"""The process of a candidate: reads requests, calls it, answers. See `mltk.oracle.process`.

Requests come on the standard input and answers go to what was the standard output. The candidate has copies
of neither: for it, the input is empty, and what it prints goes where its errors go.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread, Timer, main_thread
from typing import Any, BinaryIO

from mltk.oracle.calling import call, places, stack
from mltk.oracle.conversion import converter
from mltk.oracle.loading import CandidateError, Loaded, find
from mltk.oracle.messages import from_line, pack_outcome, to_line, unpack_request


def main() -> None:
    """Serve until the standard input ends."""
    requests, answers = _private_files()
    sys.path.insert(0, os.getcwd())
    send = _sender(answers)
    lines: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_read, args=(requests, lines), daemon=True).start()
    setup = from_line(lines.get())
    arrays, dtype = setup["arrays"], setup["dtype"]
    try:
        loaded = find(setup["candidate"])
        arrays = loaded.arrays or arrays
        if loaded.ability.absent is None:
            _import_library(arrays, dtype)
    except CandidateError as error:
        send({"id": setup["id"], "error": str(error)})
        return
    send({"id": setup["id"], **dataclasses.asdict(loaded.ability)})
    while True:
        _serve(lines.get(), loaded, send, arrays=arrays, dtype=dtype)


def _serve(
    line: bytes, loaded: Loaded, send: Callable[[dict[str, Any]], None], *, arrays: str, dtype: str
) -> None:
    message = from_line(line)
    asked = unpack_request(message)
    function, folder = loaded.function_for(asked.computation), loaded.folder
    clock = Timer(message["timeout"], lambda: send({"id": message["id"], "hangs": _place(folder)}))
    clock.daemon = True
    clock.start()
    outcome = call(function, asked, arrays=arrays, dtype=dtype, folder=folder)
    clock.cancel()
    send({"id": message["id"], **pack_outcome(outcome)})


def _place(folder: Path | None) -> str:
    """Where the candidate is at the moment."""
    return places(stack(sys._current_frames().get(main_thread().ident or 0)), folder)


def _private_files() -> tuple[BinaryIO, BinaryIO]:
    """The two ends of the conversation, which the candidate and its children cannot reach by accident."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _read(requests: BinaryIO, lines: SimpleQueue[bytes]) -> None:
    for line in requests:
        lines.put(line)
    os._exit(0)  # nobody listens any more, even if the candidate hangs


def _sender(answers: BinaryIO) -> Callable[[dict[str, Any]], None]:
    lock = Lock()

    def send(message: dict[str, Any]) -> None:
        with lock:
            answers.write(to_line(message))
            answers.flush()

    return send


def _import_library(arrays: str, dtype: str) -> None:
    """Import the library of the arrays now, so that the first call is not charged for it."""
    try:
        converter(arrays, dtype)
    except ImportError as error:
        raise CandidateError(f"arrays={arrays!r}: {error}") from error


if __name__ == "__main__":
    main()
