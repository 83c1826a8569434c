"""How much memory this process uses."""

from __future__ import annotations

from pathlib import Path


def in_use() -> int | None:
    """Bytes that are resident; ``None`` where the system, other than Linux, does not tell."""
    try:
        return status("VmRSS")
    except OSError:
        return None


def status(key: str) -> int:
    """A size in bytes from the kernel's account of this process, such as ``"VmRSS"``.

    Raises:
        OSError: If the system keeps none.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))
