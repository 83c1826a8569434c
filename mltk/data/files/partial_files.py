"""Partial files: what has arrived of a download, and beside it what the server said about the whole.

So a later attempt, perhaps of another process, asks only for the rest, and only if the file is still the same
(RFC 9110, sections 13.1.5 and 14).
"""

from __future__ import annotations

import json
import re
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from mltk.errors import StorageError
from mltk.files import create
from mltk.outside import read_bytes, read_json, reading

LONGEST_NOTES = 1 << 16
"""Bytes that what stands beside a partial file may have."""


@dataclass(frozen=True)
class Entity:
    """What a server said about a file: entity tag, date of the last change and length."""

    url: str
    etag: str | None
    modified: str | None
    total: int | None

    def __post_init__(self) -> None:
        for text in (self.url, self.etag, self.modified):
            if text is not None and not (isinstance(text, str) and is_plain(text)):
                raise ValueError(f"it has {text!r}, which no server says")
        if self.total is not None and (type(self.total) is not int or self.total < 0):
            raise ValueError(f"it has {self.total!r} bytes")

    @property
    def validator(self) -> str | None:
        """What stands for this very content in ``If-Range``, where a weak entity tag may not."""
        strong = self.etag is not None and self.etag.startswith('"')
        return self.etag if strong else self.modified

    def contradicts(self, other: Entity) -> bool:
        """Whether something differs that both know."""
        pairs = [(self.etag, other.etag), (self.modified, other.modified), (self.total, other.total)]
        return any(mine != its for mine, its in pairs if mine is not None and its is not None)


def forget(part: Path) -> None:
    """Remove a partial file and what stands beside it, as far as they exist."""
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)


def begin(part: Path, entity: Entity) -> BinaryIO:
    """A new partial file, with what stands beside it.

    The notes come after the old content is gone and before new content is here: so both always belong
    together. Whatever has these names, a link perhaps, goes first.
    """
    forget(part)
    file = create(part, buffering=0)
    try:
        with create(_notes(part)) as notes:
            notes.write(json.dumps(asdict(entity)).encode())
    except BaseException:
        file.close()
        raise
    return file


def length(part: Path) -> int:
    """How many bytes of a partial file are here; none if it is a link, or has another name as well."""
    try:
        found = part.lstat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) and found.st_nlink == 1 else 0


def _notes(part: Path) -> Path:
    """Where it stands what the server said about a partial file."""
    return part.with_name(f"{part.name}.json")


def read_entity(part: Path, url: str, most: int) -> Entity | None:
    """What is known of the file of which a part is here; ``None`` if that part is of no use."""
    notes = _notes(part)
    with suppress(StorageError), reading(notes, StorageError):
        entity = Entity(**read_json(read_bytes(notes, most=LONGEST_NOTES)))
        known = entity.validator is not None or entity.total is not None
        # With neither, the rest of another version of the file could not be told from the right one.
        if entity.url == url and known and max(length(part), entity.total or 0) <= most:
            return entity
    return None


def is_plain(text: str) -> bool:
    """Whether a text can be in a header."""
    return re.fullmatch(r"[!-~\x80-\xff]([ -~\x80-\xff]{0,1000}[!-~\x80-\xff])?", text) is not None
