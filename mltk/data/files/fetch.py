"""The folder of the datasets, and how their files get there: whole, verified and once."""

from __future__ import annotations

import logging
import os
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mltk.data.files.downloads import Patience, download
from mltk.data.files.partial_files import forget
from mltk.data.files.registry import RemoteFile, look_up
from mltk.errors import AbsentDataError, ChecksumError, DownloadError, StorageError
from mltk.files import lock, open_to_append, sync_folder
from mltk.installation import needed_for
from mltk.progress import ByteReport, downloading

LOOK_AGAIN = 0.1
"""Seconds between two looks whether another process has finished a download."""

PATIENCE = Patience()
"""How long downloads try unless told otherwise."""


def data_home() -> Path:
    """The folder of the datasets: ``$MLTK_DATA``, or the platform's cache folder of the user."""
    chosen = os.environ.get("MLTK_DATA")
    if chosen:
        return Path(chosen).expanduser()
    with needed_for("the data folder, where $MLTK_DATA names none,"):
        import pooch

    return Path(pooch.os_cache("mltk"))


def find(name: str) -> Path | None:
    """Where a file is, if it is in the data folder. Its checksum is not looked at.

    Args:
        name: As in ``mltk data list``.

    Raises:
        SettingError: If there is no such name.
        StorageError: If the folder cannot be read.
    """
    path = data_home() / look_up(name).filename
    return path if _is_file(path) else None


def present(name: str) -> Path | None:
    """What is in the data folder of a file: itself, or the cache that mltk has made from it.

    Args:
        name: As in ``mltk data list``.

    Raises:
        SettingError: If there is no such name.
        StorageError: If the folder cannot be read.
    """
    cache = look_up(name).cache
    found = find(name)
    if found is None and cache is not None and _is_file(data_home() / cache):
        return data_home() / cache
    return found


def absent(name: str) -> AbsentDataError:
    """The error about a file that is not in the data folder: how to download it, and where to put it by hand.

    Raises:
        SettingError: If there is no such name.
    """
    file, folder = look_up(name), data_home()
    return AbsentDataError(
        f"{file.filename} is not in {folder}: download it with `mltk data get {file.name}` or download=True. "
        + _by_hand(file, folder)
    )


def fetch(name: str, *, progress: bool = True, patience: Patience = PATIENCE) -> Path:
    """A file in the data folder, downloaded if it is not there yet.

    Its checksum is verified, whether it was there or not. An interrupted download is continued. Of several
    processes that fetch the same file at once, one downloads it and the others wait.

    Args:
        name: As in ``mltk data list``.
        progress: Show it on the standard error stream: a bar on a terminal, lines elsewhere.
        patience: How long to try.

    Returns:
        Where the file is.

    Raises:
        SettingError: If there is no such name.
        DownloadError: If the file cannot be downloaded.
        ChecksumError: If it is not the right file; a download is then deleted, a file that was there is not.
        StorageError: If the folder cannot be written, or the disk is full.
    """
    return fetch_file(look_up(name), data_home(), progress=progress, patience=patience)


def fetch_file(
    file: RemoteFile, folder: Path, *, progress: bool = True, patience: Patience = PATIENCE
) -> Path:
    """The same as `fetch` for any file and folder."""
    path = folder / file.filename
    if _is_file(path):
        _verify(file, path)
        return path
    with downloading(file.filename, sys.stderr if progress else None) as report, _alone(file, path, report):
        if _is_file(path):  # another process has fetched it meanwhile
            _verify(file, path)
        else:
            _retrieve(file, path, patience, report)
    return path


def _retrieve(file: RemoteFile, path: Path, patience: Patience, report: ByteReport) -> None:
    """Download a file; pooch verifies its checksum and then gives it its name."""
    with needed_for("downloads"):
        import pooch

    part = path.with_name(f"{path.name}.part")

    def complete(url: str, output: str, _pooch: object) -> None:
        Path(output).unlink()  # pooch's, and empty: a kill would leave it behind
        download(url, part, size=file.size, patience=patience, report=report)
        os.replace(part, output)
        forget(part)

    try:
        with _quiet(pooch.get_logger()):
            pooch.retrieve(
                file.url,
                known_hash=f"md5:{file.md5}" if file.md5 else None,
                fname=path.name,
                path=path.parent,
                downloader=complete,
            )
        sync_folder(path.parent)
    except DownloadError as error:
        here = " What has arrived is kept: the next attempt goes on from it." if part.exists() else ""
        raise DownloadError(
            f"{file.url} cannot be downloaded: {error}.{here} {_by_hand(file, path.parent)}"
        ) from error
    except ValueError as error:
        raise ChecksumError(f"{file.url} is not the file that it should be: {error}") from error
    except OSError as error:
        raise _unwritable(file, path.parent, error) from error
    if file.md5 is None:
        report.say("no checksum is known for this file: it is taken as the server gave it")


@contextmanager
def _alone(file: RemoteFile, path: Path, report: ByteReport) -> Iterator[None]:
    """Keep every other process from fetching the same file, or wait until the one that does is done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock_file = open_to_append(path.with_name(f".{path.name}.lock"))
    except OSError as error:
        raise _unwritable(file, path.parent, error) from error
    with lock_file:
        waiting = False
        while True:
            try:
                lock(lock_file)
                break
            except (BlockingIOError, PermissionError):  # the latter on Windows
                if not waiting:
                    report.say("another process is downloading it: waiting")
                waiting = True
                time.sleep(LOOK_AGAIN)
            except OSError as error:
                raise _unwritable(file, path.parent, error) from error
        yield


def _verify(file: RemoteFile, path: Path) -> None:
    """Compare the checksum of a file that is here."""
    if file.md5 is None:
        return
    with needed_for("checksums"):
        import pooch

    try:
        found = pooch.file_hash(str(path), alg="md5")
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}") from error
    if found != file.md5:
        raise ChecksumError(
            f"{path} is not the file published at {file.url}: its MD5 is {found}, expected {file.md5}. "
            f"Delete it, and `mltk data get {file.name}` downloads it anew"
        )


def _by_hand(file: RemoteFile, folder: Path) -> str:
    """How to do without a connection."""
    checksum = f"MD5 {file.md5}" if file.md5 else "no checksum known"
    return f"To bring it by hand: get {file.url} ({checksum}) and put it at {folder / file.filename}"


def _unwritable(file: RemoteFile, folder: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{folder} cannot be written: {error.strerror or error}. "
        f"The environment variable MLTK_DATA names another folder. {_by_hand(file, folder)}"
    )


def _is_file(path: Path) -> bool:
    """Whether a file is there; what is neither that nor nothing is refused."""
    try:
        kind = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise StorageError(f"{path.parent} cannot be read: {error.strerror or error}") from error
    if not stat.S_ISREG(kind):
        raise StorageError(f"{path} is in the way: it is no file; expected one, or nothing")
    return True


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep pooch from telling what the report tells."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
