"""All cores of a machine: a function of many items, computed in several processes.

The processes are started anew, not forked, since a forked Torch may hang. They are `mltk.workers`, which end
when this process does, and import what they need by its name: so a script needs no ``if __name__ ==
"__main__"``, but learners and task sources of one's own must stand in a module. Each process has one thread,
so that they do not fight over the cores, and so that rounding does not depend on how many there are: it is
that of a single process with one thread.
"""

from __future__ import annotations

import base64
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from mltk.errors import RunError, SettingError
from mltk.workers import THREADS, Worker, questions

COMMAND = [sys.executable, "-P", "-c", "from mltk.evaluation.in_processes import main; main()"]
ONE_THREAD = dict.fromkeys(THREADS, "1")

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_processes(
    function: Callable[..., Result], items: Sequence[Item], workers: int, **shared: Any
) -> Iterator[Result]:
    """What a function gives for each item, in their order, computed by several processes.

    Args:
        function: A function of a module, called with an item and what is shared.
        items: What it is called with, one after the other.
        workers: How many processes; no more are started than there are items.
        **shared: What every call gets besides, sent to each process once.

    Raises:
        SettingError: If something that is shared cannot be sent to another process: it is named.
        RunError: If a process ends before it has answered.
        Exception: What the function raises, for the first item in order for which it does.
    """
    sent = {name: _pickled(name, value) for name, value in shared.items()}
    with TemporaryDirectory(prefix="mltk-") as folder, ExitStack() as running:
        work = Path(folder, "work")
        work.write_bytes(pickle.dumps((sys.path, pickle.dumps((function, list(items))), sent)))
        pool = ThreadPoolExecutor(max_workers=workers)
        # Whatever happens: nothing more is begun, and the processes end, before the threads are waited for.
        running.callback(pool.shutdown)
        idle: SimpleQueue[Worker] = SimpleQueue()
        for _ in range(min(workers, len(items))):
            idle.put(running.enter_context(Worker(COMMAND, environment=os.environ | ONE_THREAD)))
        running.callback(pool.shutdown, wait=False, cancel_futures=True)
        for future in [pool.submit(_answer, idle, work, number) for number in range(len(items))]:
            yield future.result()


def _answer(idle: SimpleQueue[Worker], work: Path, number: int) -> Any:
    """What a process that is idle computes for an item."""
    worker = idle.get()
    try:
        answer = worker.ask({"work": str(work), "number": number})
    finally:
        idle.put(worker)
    if answer is None:
        raise RunError(
            f"a worker process {worker.ending()}\nif the memory was not enough, fewer workers need less"
        )
    found = pickle.loads(base64.b64decode(answer["found"]))
    if answer["raised"]:
        raise found
    return found


def _pickled(name: str, value: Any) -> bytes:
    try:
        found = pickle.dumps(value)
    except Exception as error:
        raise SettingError(
            f"{name} cannot be sent to other processes ({error}); expected what pickle takes, or workers=None"
        ) from error
    if b"__main__" in found:
        raise SettingError(
            f"{name} holds what the script or notebook itself defines, which other processes cannot import; "
            "expected its classes and functions in a module of their own, or workers=None"
        )
    return found


def main() -> None:
    """Answer questions; the first one says where the work lies."""
    loaded: tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]] | None = None
    for question, answer in questions():
        try:
            if loaded is None:
                loaded = _loaded(Path(question["work"]))
            function, items, shared = loaded
            found, raised = pickle.dumps(function(items[question["number"]], **shared)), False
        except Exception as error:
            found, raised = _pickled_error(error), True
        answer({"found": base64.b64encode(found).decode(), "raised": raised})


def _loaded(work: Path) -> tuple[Callable[..., Any], Sequence[Any], Mapping[str, Any]]:
    path, calls, sent = pickle.loads(work.read_bytes())
    sys.path[:] = path  # before anything of the user's is imported
    function, items = pickle.loads(calls)
    return function, items, {name: pickle.loads(value) for name, value in sent.items()}


def _pickled_error(error: Exception) -> bytes:
    """The error with the traceback in a note; in words where it cannot be sent."""
    error.add_note(f"in a worker process:\n{''.join(traceback.format_tb(error.__traceback__))}")
    try:
        found = pickle.dumps(error)
        pickle.loads(found)
    except Exception:
        return pickle.dumps(RunError(f"in a worker process, {type(error).__name__}: {error}"))
    return found
