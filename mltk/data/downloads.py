"""Downloads over a poor line: what has arrived is kept, and the next attempt goes on from there.

The bytes go to a partial file. Beside it stands what the server said about the file (its entity tag, its date
and its length), so that a later attempt, perhaps of another process, asks only for the rest, and only if the
file is still the same (RFC 9110, sections 13.1.5 and 14).
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mltk.data.download_progress import Report, in_words
from mltk.errors import DownloadError, StorageError

if TYPE_CHECKING:
    from requests import Response

CHUNK = 1 << 14
"""Bytes read at a time: as many are lost at most when a connection hangs or is reset."""


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
    """

    attempts: int = 6
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    backoff: float = 1.0
    longest_wait: float = 60.0


@dataclass(frozen=True)
class _Entity:
    """What a server said about a file: entity tag, date of the last change and length."""

    url: str
    etag: str | None
    modified: str | None
    total: int | None

    @property
    def validator(self) -> str | None:
        """What stands for this very content in ``If-Range``, where a weak entity tag may not."""
        strong = self.etag is not None and self.etag.startswith('"')
        return self.etag if strong else self.modified

    def contradicts(self, other: _Entity) -> bool:
        """Whether something differs that both know."""
        pairs = [(self.etag, other.etag), (self.modified, other.modified), (self.total, other.total)]
        return any(mine != its for mine, its in pairs if mine is not None and its is not None)


class _InterruptedError(Exception):
    """An attempt failed in a way that another one may not.

    Attributes:
        wait: Seconds after which to try again; ``None`` for the usual back-off.
    """

    def __init__(self, problem: str, *, wait: float | None = None) -> None:
        super().__init__(problem)
        self.wait = wait


def download(url: str, part: Path, *, size: int | None, patience: Patience, report: Report) -> None:
    """Complete a partial file, which need not exist.

    Args:
        url: What to download.
        part: The partial file. When this function returns it is whole and on the disk; if it raises, what is
            there serves the next call. `forget` removes it with what stands beside it.
        size: The length to expect of a server that does not tell it.
        patience: How long to try.
        report: Told of progress and of each failure.

    Raises:
        DownloadError: If the server refuses, or nothing more came in so many attempts.
        StorageError: If the partial file cannot be written.
    """
    failures, furthest = 0, _length(part)
    while True:
        try:
            return _attempt(url, part, size=size, patience=patience, report=report)
        except _InterruptedError as problem:
            if _length(part) > furthest:
                failures, furthest = 0, _length(part)
            failures += 1
            if failures >= patience.attempts:
                raise DownloadError(f"{problem} (attempt {failures} of {patience.attempts})") from problem
            wait = problem.wait
            if wait is None:
                wait = min(patience.longest_wait, patience.backoff * 2 ** (failures - 1))
                wait *= random.uniform(0.5, 1.0)
            elif wait > patience.longest_wait:
                raise DownloadError(f"{problem} and asks to wait {wait:.0f} seconds") from problem
            report.say(f"{problem}; next attempt in {wait:.1f} s")
            time.sleep(wait)


def forget(part: Path) -> None:
    """Remove a partial file and what stands beside it, as far as they exist."""
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)


def _attempt(url: str, part: Path, *, size: int | None, patience: Patience, report: Report) -> None:
    """Ask once for what is missing.

    Raises:
        _InterruptedError: If another attempt may succeed.
        DownloadError: If not.
    """
    import requests
    import urllib3

    entity = _read_entity(part, url)
    done = _length(part) if entity else 0
    if entity and done and done == entity.total:
        return
    # Compressed on the way, the bytes would not be those that ranges, lengths and checksums count.
    headers = {"Accept-Encoding": "identity"}
    if entity and done:
        headers["Range"] = f"bytes={done}-"
        if entity.validator:
            headers["If-Range"] = entity.validator
    timeout = (patience.connect_timeout, patience.read_timeout)
    try:
        with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
            if entity and done and response.status_code in (206, 416):
                _check_range(response, part, entity, done)
                report.say(f"going on after {in_words(done)}")
            elif response.status_code == 200:
                entity, done = _described(response, url, size), 0
            else:
                raise _refusal(response)
            _receive(response, part, entity, done, report)
    except (requests.Timeout, urllib3.exceptions.TimeoutError) as error:
        raise _InterruptedError("the server does not answer in time") from error
    except requests.ConnectionError as error:
        raise _InterruptedError(f"no connection ({_root(error)})") from error
    except urllib3.exceptions.HTTPError as error:
        raise _InterruptedError(f"the connection broke after {in_words(_length(part))}") from error
    except requests.RequestException as error:
        raise DownloadError(str(error)) from error


def _refusal(response: Response) -> Exception:
    """The error about a status that brings no content."""
    status = response.status_code
    problem = f"the server answers {status} {response.reason}"
    if status in (408, 429) or status >= 500:
        return _InterruptedError(problem, wait=_retry_after(response))
    return DownloadError(problem)


def _retry_after(response: Response) -> float | None:
    """The seconds that a server asks to wait: it gives them or a date."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, (then - datetime.now(UTC)).total_seconds())


def _described(response: Response, url: str, size: int | None) -> _Entity:
    """What a server says of the whole file that it sends."""
    length = response.headers.get("Content-Length", "")
    return _Entity(
        url=url,
        etag=response.headers.get("ETag"),
        modified=response.headers.get("Last-Modified"),
        total=int(length) if length.isdecimal() else size,
    )


def _check_range(response: Response, part: Path, entity: _Entity, done: int) -> None:
    """See that a server sends the rest of the file of which a part is here; if not, start anew.

    Raises:
        _InterruptedError: If it does not.
    """
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if found is None or int(found[1]) != done:
        problem = "the server does not send the rest"
    else:
        total = None if found[2] == "*" else int(found[2])
        sent = _Entity(entity.url, response.headers.get("ETag"), response.headers.get("Last-Modified"), total)
        if not entity.contradicts(sent):
            return
        problem = "the file has changed on the server"
    forget(part)
    raise _InterruptedError(f"{problem}: starting anew", wait=0.0)


def _receive(response: Response, part: Path, entity: _Entity, done: int, report: Report) -> None:
    """Write the content of a response behind the bytes that are here already."""
    total = entity.total
    try:
        if total is not None and total - done > (free := shutil.disk_usage(part.parent).free):
            raise StorageError(
                f"{in_words(total - done)} do not fit into {part.parent}: {in_words(free)} are free there"
            )
        with part.open("ab" if done else "wb", buffering=0) as file:
            # After the old content is gone and before new content comes, so that both always belong together.
            if not done:
                _notes(part).write_text(json.dumps(asdict(entity)))
            report.advance(done, total)
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                rest = memoryview(chunk)
                while rest:  # a write may take a part only
                    written = file.write(rest)
                    rest, done = rest[written:], done + written
                report.advance(done, total)
            os.fsync(file.fileno())
    except OSError as error:
        missing = f" {in_words(total - done)} are missing." if total is not None else ""
        raise StorageError(
            f"{part} cannot be written: {error.strerror or error}.{missing} "
            f"What is there is kept, and the next attempt goes on from it; delete it to free its room"
        ) from error
    if total is not None and done < total:
        raise _InterruptedError(f"the connection broke after {in_words(done)} of {in_words(total)}")
    if total is not None and done > total:
        forget(part)
        raise _InterruptedError("the server sends more than it should: starting anew")


def _length(part: Path) -> int:
    """How many bytes of a partial file are here."""
    try:
        return part.stat().st_size
    except OSError:
        return 0


def _notes(part: Path) -> Path:
    """Where it stands what the server said about a partial file."""
    return part.with_name(f"{part.name}.json")


def _read_entity(part: Path, url: str) -> _Entity | None:
    """What is known of the file of which a part is here; ``None`` if that part is of no use."""
    try:
        entity = _Entity(**json.loads(_notes(part).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    # With neither, the rest of another version of the file could not be told from the right one.
    return entity if entity.url == url and (entity.validator or entity.total is not None) else None


def _root(error: BaseException) -> str:
    """What was at the bottom of an error."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
