"""Peak memory of one meta-gradient, in a fresh process per contestant.

The process loads the library with a small case, prepares the real one, gives freed memory back to the
system, and then measures how far one call raises the resident set above what it was. Every larger block has
a mapping of its own (glibc), so that what is resident is what is alive, and not what the allocator keeps for
later. Linux forgets the old peak on request; elsewhere the peak since the start of the process stands in for
it, and a call that stays below that counts as nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from pathlib import Path

from mltk.benchmark.cases import WARM_UP, build
from mltk.benchmark.contestants import CONTESTANTS, TORCH, Mltk
from mltk.memory import status
from mltk.peers import Case, Peer
from mltk.workers import Worker, module, questions

OWN_MAPPINGS = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""The environment in which glibc gives each block of this many bytes, or more, a mapping of its own."""

CHECKPOINTED = Mltk(f"{TORCH.name}-checkpoint", TORCH.backend, TORCH.engine, checkpoint=True)


def peak_memory(benchmark: str, contestant: str, settings: dict[str, int]) -> int | None:
    """Bytes that one meta-gradient needs at its peak; ``None`` if the process failed.

    Args:
        benchmark: Name of a case.
        contestant: Name of a contestant.
        settings: Of the case.
    """
    question = {"benchmark": benchmark, "contestant": contestant, "settings": settings}
    with Worker(module("mltk.benchmark.memory"), environment=os.environ | OWN_MAPPINGS) as worker:
        answer = worker.ask(question)
    return None if answer is None else int(answer["bytes"])


def measure(contestant: Peer, small: Case, case: Case) -> int:
    """Bytes by which one meta-gradient of ``case`` raises the memory of this process at its peak."""
    contestant.prepare(small)()
    call = contestant.prepare(case)
    gc.collect()
    _trim()
    before = _reset_peak()
    result = call()
    peak = _peak()
    del result
    return max(0, peak - before)


def _trim() -> None:
    """Give memory that was freed back to the system, where the C library can."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> int:
    """Forget the peak so far; return the memory in use, or where that is impossible the peak so far."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return _peak()
    return status("VmRSS")


def _peak() -> int:
    try:
        return status("VmHWM")
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _main() -> None:
    question, answer = next(questions())
    name = question["benchmark"]
    found = {contestant.name: contestant for contestant in (*CONTESTANTS[name], CHECKPOINTED)}
    small, case = build(name, **WARM_UP[name]), build(name, **question["settings"])
    answer({"bytes": measure(found[question["contestant"]], small, case)})


if __name__ == "__main__":
    _main()
