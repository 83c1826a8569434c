"""What a training shares with whoever watches it: memory, and the random numbers of the library."""

from __future__ import annotations

import sys
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext

from mltk.memory import in_use
from mltk.tree import Array


def memory_in_use(arrays: Collection[Array]) -> dict[str, float]:
    """Bytes that this process has in use, and those of the CUDA device that arrays are on."""
    known, torch = in_use(), sys.modules.get("torch")
    found: dict[str, float] = {} if known is None else {"memory": known}
    first = next(iter(arrays), None)
    if torch is not None and getattr(first, "is_cuda", False):
        found["device_memory"] = torch.cuda.memory_allocated(first.device)  # type: ignore[union-attr]
    return found


def same_random_numbers() -> AbstractContextManager[None]:
    """What is drawn inside, as by dropout, changes none of the numbers that are drawn after it."""
    torch = sys.modules.get("torch")
    return nullcontext() if torch is None else torch.random.fork_rng()
