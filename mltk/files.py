"""What the operating system is asked for: plain files and never a link or a pipe, locks, whole files."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mltk.errors import RunError

AnyPath = str | os.PathLike[str]
"""What names a file or folder."""

# Where a system has no such flag, it is looked at the name before instead; nothing waits for a pipe there.
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_PLAIN = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

if sys.platform == "win32":
    import msvcrt

    def lock(file: BinaryIO) -> None:
        """Lock an open file, or raise an `OSError` at once if another has it locked.

        The lock is the operating system's: it ends when the file is closed or the process ends, however.
        """
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    try:
        import fcntl
    except ImportError:  # a system without processes that could disagree, as in a browser

        def lock(file: BinaryIO) -> None:
            """There is nobody to lock a file against."""
    else:

        def lock(file: BinaryIO) -> None:
            """Lock an open file, or raise an `OSError` at once if another has it locked.

            The lock is the operating system's: it ends when the file is closed or the process ends, however.
            """
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def open_to_read(path: Path) -> BinaryIO:
    """Open a file, or what a link leads to; it does not wait for the other end of a pipe.

    Raises:
        OSError: If that is not possible, or it is a pipe, a device or a folder.
    """
    return _open(path, os.O_RDONLY, "rb", follow=True)


def open_to_append(path: Path, *, buffering: int = -1) -> BinaryIO:
    """Open a file to write at its end, and make it if it is not there.

    Raises:
        OSError: If that is not possible, or it is a link, a pipe, a device or a folder.
    """
    return _open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, "ab", buffering=buffering)


def create(path: Path, *, buffering: int = -1) -> BinaryIO:
    """Make a new file.

    Raises:
        OSError: If that is not possible, or anything has that name already, be it a link to nowhere.
    """
    return _open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, "wb", buffering=buffering)


def replace_whole(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file so that at every moment either the old or the new one stands there, whole.

    A link is replaced, and what it leads to is left as it is; pipes and devices are refused. A process that
    is killed leaves a file behind that `remove_leftovers` removes.

    Args:
        path: The file; its folder must exist.
        write: Writes the new content to an open file.

    Raises:
        OSError: If it cannot be written; the previous file is then intact.
    """
    with contextlib.suppress(FileNotFoundError):
        kind = stat.S_IFMT(path.lstat().st_mode)
        if kind in _KINDS:  # a device, such as the null device, would be gone
            raise OSError(errno.EINVAL, _KINDS[kind], str(path))
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with create(temporary) as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def stand_also_at(path: Path, second: Path) -> None:
    """Give a file a second name, in place of what stands there; `replace_whole` parts them again.

    Where the system has no such links, the second is a copy.

    Raises:
        OSError: If that is not possible; both are then as they were.
    """
    temporary = second.with_name(f".{second.name}.{uuid.uuid4().hex}.tmp")
    try:
        os.link(path, temporary, follow_symlinks=False)
    except (OSError, NotImplementedError):
        with open_to_read(path) as file:
            replace_whole(second, lambda copy: shutil.copyfileobj(file, copy))
        return
    try:
        os.replace(temporary, second)
    finally:  # replacing a name by another one of the same file leaves both
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left beside a file; no other process may be writing that file."""
    with contextlib.suppress(OSError):
        for left in path.parent.glob(f".{path.name}.*.tmp"):
            left.unlink()


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


def _open(path: Path, flags: int, mode: str, *, follow: bool = False, buffering: int = -1) -> BinaryIO:
    """A plain file, opened without waiting and, unless ``follow``, without going through a link."""
    if not follow:
        flags |= _NO_LINKS
        if not _NO_LINKS and path.is_symlink():
            raise OSError(errno.ELOOP, "it is a symbolic link", str(path))
    try:
        number = os.open(path, flags | _AT_ONCE | _PLAIN, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK) and path.is_symlink():
            raise OSError(error.errno, "it is a symbolic link", str(path)) from None
        if error.errno == errno.ENXIO:
            raise OSError(error.errno, "it is a pipe or a socket", str(path)) from None
        raise
    try:
        kind = stat.S_IFMT(os.fstat(number).st_mode)
        if kind != stat.S_IFREG:
            raise OSError(errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL, _KINDS[kind], str(path))
        file: Any = os.fdopen(number, mode, buffering)
    except BaseException:
        os.close(number)
        raise
    opened: BinaryIO = file
    return opened


_KINDS = {
    stat.S_IFDIR: "it is a directory",
    stat.S_IFIFO: "it is a pipe",
    stat.S_IFCHR: "it is a device",
    stat.S_IFBLK: "it is a device",
    stat.S_IFSOCK: "it is a socket",
}


def replace_file(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write a file so that at every moment either the old or the new one stands there, whole.

    Args:
        path: The file; its folder must exist.
        write: Writes the new content to an open file.

    Raises:
        RunError: If it cannot be written; the previous file is then intact.
    """
    try:
        replace_whole(path, write)
    except OSError as error:
        kept = "; the file that stands there is whole" if path.exists() else ""
        raise RunError(f"{path} cannot be written: {reason(error)}{kept}") from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise a `RunError` that names a file where it cannot be written."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} cannot be written: {reason(error)}") from error


def reason(error: OSError | ValueError) -> str:
    """What the system says, without the path."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
