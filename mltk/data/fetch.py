"""The folder of the datasets, and how their files get there."""

from __future__ import annotations

import os
from pathlib import Path

from mltk.data.registry import look_up
from mltk.errors import AbsentDataError


def data_home() -> Path:
    """The folder of the datasets: ``$MLTK_DATA``, or the platform's cache folder of the user."""
    chosen = os.environ.get("MLTK_DATA")
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("mltk"))


def find(name: str) -> Path | None:
    """Where a file is, if it is in the data folder.

    Args:
        name: As in ``mltk data list``.

    Raises:
        SettingError: If there is no such name.
    """
    path = data_home() / look_up(name).filename
    return path if path.is_file() else None


def fetch(name: str, *, progress: bool = True) -> Path:
    """A file in the data folder, downloaded if it is not there yet.

    Args:
        name: As in ``mltk data list``.
        progress: Show it on the standard error stream.

    Returns:
        Where the file is.

    Raises:
        SettingError: If there is no such name.
    """
    import pooch

    file = look_up(name)
    known = f"md5:{file.md5}" if file.md5 else None
    return Path(pooch.retrieve(file.url, known, fname=file.filename, path=data_home(), progressbar=False))


def absent(name: str) -> AbsentDataError:
    """The error about a file that is not in the data folder: how to download it, and where to put it by hand.

    Raises:
        SettingError: If there is no such name.
    """
    file = look_up(name)
    return AbsentDataError(
        f"{file.filename} is not in {data_home()}: download it with `mltk data get {file.name}`"
    )
