"""Downloads over a poor line: what has arrived is kept, and the next attempt goes on from there.

The bytes go to a partial file, see `mltk.data.files.partial_files`.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from mltk import outside
from mltk.data.files.partial_files import Entity, begin, forget, is_plain, length, read_entity
from mltk.errors import DownloadError, StorageError
from mltk.files import open_to_append
from mltk.progress import ByteReport, in_bytes

if TYPE_CHECKING:
    from requests import Response

CHUNK = 1 << 14
"""Bytes read at a time: as many are lost at most when a connection hangs or is reset."""

LARGEST = 1 << 28
"""Bytes that a file of unknown size may have."""


@dataclass(frozen=True)
class Patience:
    """How long a download tries.

    Attributes:
        attempts: After so many without progress it gives up; one that brings new bytes counts as the first.
        connect_timeout: Seconds in which a server must take the call.
        read_timeout: Seconds that a server may be silent.
        backoff: Seconds to wait after the first failure; twice as many after each further one. Chance makes
            each wait up to half shorter, so that many clients do not come back at once.
        longest_wait: Seconds that it waits at most. A server that asks for more is not waited for.
        total: Seconds for the whole download, whatever comes meanwhile: a server may send a byte a minute.
    """

    attempts: int = 6
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    backoff: float = 1.0
    longest_wait: float = 60.0
    total: float = 4 * 3600.0


class _InterruptedError(Exception):
    """An attempt failed in a way that another one may not.

    Attributes:
        wait: Seconds after which to try again; ``None`` for the usual back-off.
    """

    def __init__(self, problem: str, *, wait: float | None = None) -> None:
        super().__init__(problem)
        self.wait = wait


def download(url: str, part: Path, *, size: int | None, patience: Patience, report: ByteReport) -> None:
    """Complete a partial file, which need not exist.

    Args:
        url: What to download.
        part: The partial file. When this function returns it is whole and on the disk; if it raises, what is
            there serves the next call. `forget` removes it with what stands beside it.
        size: The length of the file; of a longer one nothing is taken. ``None`` if it is not known, then it
            is at most `LARGEST`.
        patience: How long to try.
        report: Told of progress and of each failure.

    Raises:
        DownloadError: If the server refuses or sends more than it should, nothing more came in so many
            attempts, or the time is over.
        StorageError: If the partial file cannot be written.
    """
    failures, furthest = 0, length(part)
    clock = _Clock(time.monotonic() + patience.total, patience.total)
    while True:
        try:
            return _attempt(url, part, size=size, patience=patience, clock=clock, report=report)
        except _InterruptedError as problem:
            if length(part) > furthest:
                failures, furthest = 0, length(part)
            failures += 1
            if failures >= patience.attempts:
                raise DownloadError(f"{problem} (attempt {failures} of {patience.attempts})") from problem
            wait = problem.wait
            if wait is None:
                wait = min(patience.longest_wait, patience.backoff * 2 ** (failures - 1))
                wait *= random.uniform(0.5, 1.0)
            elif wait > patience.longest_wait:
                raise DownloadError(f"{problem} and asks to wait {wait:.0f} seconds") from problem
            if clock.left() <= wait:
                raise clock.over() from problem
            report.say(f"{problem}; next attempt in {wait:.1f} s")
            time.sleep(wait)


@dataclass(frozen=True)
class _Clock:
    """When a download must be over, and how many seconds it had."""

    end: float
    total: float

    def left(self) -> float:
        """Seconds that are left."""
        return self.end - time.monotonic()

    def over(self) -> DownloadError:
        """The error about a download that takes too long."""
        return DownloadError(f"it is not here after {self.total:.0f} s")


def _attempt(
    url: str, part: Path, *, size: int | None, patience: Patience, clock: _Clock, report: ByteReport
) -> None:
    """Ask once for what is missing.

    Raises:
        _InterruptedError: If another attempt may succeed.
        DownloadError: If not.
    """
    import requests
    import urllib3

    most = LARGEST if size is None else size
    entity = read_entity(part, url, most)
    done = length(part) if entity else 0
    if entity and done and done == entity.total:
        return
    # Compressed on the way, the bytes would not be those that ranges, lengths and checksums count.
    headers = {"Accept-Encoding": "identity"}
    if entity and done:
        headers["Range"] = f"bytes={done}-"
        if entity.validator:
            headers["If-Range"] = entity.validator
    try:
        with _ask(url, headers, patience, clock) as response:
            if entity and done and response.status_code in (206, 416):
                _check_range(response, part, entity, done)
                report.say(f"going on after {in_bytes(done)}")
            elif response.status_code == 200:
                entity, done = _described(response, url, size), 0
            else:
                raise _refusal(response)
            if entity.total is not None and entity.total > most:
                raise DownloadError(f"the server offers {entity.total} bytes; expected {_expected(size)}")
            _receive(response, part, entity, done, most, clock, report)
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise _InterruptedError("the server does not answer in time") from error
    except requests.ConnectionError as error:
        raise _InterruptedError(f"no connection ({_root(error)})") from error
    except urllib3.exceptions.HTTPError as error:
        raise _InterruptedError(f"the connection broke after {in_bytes(length(part))}") from error
    except requests.RequestException as error:
        raise DownloadError(str(error)) from error


def _ask(url: str, headers: dict[str, str], patience: Patience, clock: _Clock) -> Response:
    """The beginning of an answer. It is waited for from outside, as it may come in drips without an end."""
    import requests
    import urllib3

    answers: SimpleQueue[Response | BaseException] = SimpleQueue()
    timeout = (patience.connect_timeout, patience.read_timeout)

    def ask() -> None:
        try:
            answers.put(requests.get(url, headers=headers, stream=True, timeout=timeout))
        except BaseException as error:
            answers.put(error)

    Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=max(0.0, clock.left()))
    except Empty:
        raise clock.over() from None
    if isinstance(answer, requests.RequestException | urllib3.exceptions.HTTPError):
        raise answer
    if isinstance(answer, BaseException):
        with outside.reading("the answer", DownloadError, damaged="cannot be read"):
            raise answer
    return answer


def _expected(size: int | None) -> str:
    """The length to expect, in words."""
    return f"at most {LARGEST} bytes of a file of unknown size" if size is None else str(size)


def _refusal(response: Response) -> Exception:
    """The error about a status that brings no content."""
    status = response.status_code
    problem = f"the server answers {status} {response.reason}"
    if status in (408, 429) or status >= 500:
        return _InterruptedError(problem, wait=_retry_after(response))
    return DownloadError(problem)


def _retry_after(response: Response) -> float | None:
    """The seconds that a server asks to wait: it gives them or a date."""
    from urllib3 import Retry

    with suppress(DownloadError), outside.reading("Retry-After", DownloadError):
        return Retry().parse_retry_after(response.headers["Retry-After"])
    return None


def _described(response: Response, url: str, size: int | None) -> Entity:
    """What a server says of the whole file that it sends."""
    length = re.fullmatch(r"\d{1,18}", response.headers.get("Content-Length", ""))
    return Entity(
        url=url,
        etag=_header(response, "ETag"),
        modified=_header(response, "Last-Modified"),
        total=int(length[0]) if length else size,
    )


def _header(response: Response, name: str) -> str | None:
    """What a server says, if it can be said again to it."""
    value = response.headers.get(name)
    return value if value and is_plain(value) else None


def _check_range(response: Response, part: Path, entity: Entity, done: int) -> None:
    """See that a server sends the rest of the file of which a part is here; if not, start anew.

    Raises:
        _InterruptedError: If it does not.
    """
    found = re.fullmatch(
        r"bytes (\d{1,18})-\d+/(\d{1,18}|\*)", response.headers.get("Content-Range", "").strip()
    )
    if found is None or int(found[1]) != done:
        problem = "the server does not send the rest"
    else:
        total = None if found[2] == "*" else int(found[2])
        sent = Entity(entity.url, _header(response, "ETag"), _header(response, "Last-Modified"), total)
        if not entity.contradicts(sent):
            return
        problem = "the file has changed on the server"
    forget(part)
    raise _InterruptedError(f"{problem}: starting anew", wait=0.0)


def _receive(
    response: Response, part: Path, entity: Entity, done: int, most: int, clock: _Clock, report: ByteReport
) -> None:
    """Write the content of a response behind the bytes that are here already, and never more than it has."""
    total = entity.total
    # What is here already; `stream` and `read` would wait until a chunk is full.
    read = getattr(response.raw, "read1", response.raw.read)
    try:
        if total is not None and total - done > (free := shutil.disk_usage(part.parent).free):
            raise StorageError(
                f"{in_bytes(total - done)} do not fit into {part.parent}: {in_bytes(free)} are free there"
            )
        with open_to_append(part, buffering=0) if done else begin(part, entity) as file:
            report.advance(done, total)
            while chunk := read(CHUNK, decode_content=False):
                if clock.left() <= 0:
                    raise clock.over()
                if done + len(chunk) > (most if total is None else total):
                    raise _TooMuchError
                rest = memoryview(chunk)
                while rest:  # a write may take a part only
                    written = file.write(rest)
                    rest, done = rest[written:], done + written
                report.advance(done, total)
            os.fsync(file.fileno())
    except _TooMuchError:
        forget(part)
        if total is None:
            raise DownloadError(
                f"the server sends more than {most} bytes of a file of unknown size"
            ) from None
        raise _InterruptedError("the server sends more than it should: starting anew") from None
    except OSError as error:
        missing = f" {in_bytes(total - done)} are missing." if total is not None else ""
        raise StorageError(
            f"{part} cannot be written: {error.strerror or error}.{missing} "
            f"What is there is kept, and the next attempt goes on from it; delete it to free its room"
        ) from error
    if total is not None and done < total:
        raise _InterruptedError(f"the connection broke after {in_bytes(done)} of {in_bytes(total)}")


class _TooMuchError(Exception):
    """A response is longer than the file."""


def _root(error: BaseException) -> str:
    """What was at the bottom of an error."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
