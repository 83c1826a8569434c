"""What the operating system is asked for: exclusive locks, and folders that are safely on the disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt

    def lock(file: BinaryIO) -> None:
        """Lock an open file, or raise an `OSError` at once if another has it locked.

        The lock is the operating system's: it ends when the file is closed or the process ends, however.
        """
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def lock(file: BinaryIO) -> None:
        """Lock an open file, or raise an `OSError` at once if another has it locked.

        The lock is the operating system's: it ends when the file is closed or the process ends, however.
        """
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def sync_folder(path: Path) -> None:
    """See to it that the names in a folder are on the disk.

    Raises:
        OSError: If the system refuses.
    """
    if os.name == "nt":  # Windows cannot open a folder
        return
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
