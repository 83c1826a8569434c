r"""Event files, which TensorBoard reads.

A file is a sequence of records: the length of the data as eight bytes, their checksum, the data, and theirs.
A checksum is the CRC-32C of the bytes (Castagnoli, reflected polynomial ``0x82F63B78``), rotated right by 15
bits, plus ``0xA282EAD8``, as TFRecord files have it. The data are protocol buffers: an ``Event`` with
``wall_time`` (1), ``step`` (2) and either ``file_version`` (3) or a ``summary`` (5) of values, each with a
``tag`` (1) and a ``simple_value`` (2).
"""

from __future__ import annotations

import struct
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from mltk.files import AnyPath, open_to_append


class TensorBoard:
    """Writes what a monitor sees as scalars that TensorBoard shows; TensorBoard itself is not needed for it.

    Args:
        folder: Where the file goes, such as that of the run; it is made if need be. Each object writes a file
            of its own, so that the next one does not change it.

    Examples:
        >>> import mltk
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> monitor = mltk.toolkit.Monitor(every=1, writers=[mltk.toolkit.TensorBoard(folder)])
        >>> monitor.step(2.5, {"weight": mltk.backend("numpy").asarray([3.0, 4.0])})
        >>> # then: tensorboard --logdir FOLDER
    """

    def __init__(self, folder: AnyPath) -> None:
        name = f"events.out.tfevents.{int(time.time())}.{uuid.uuid4().hex}.mltk"
        self.path = Path(folder) / name

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """See `mltk.toolkit.monitor.Writer`.

        Raises:
            OSError: If it cannot be written.
        """
        now = _number(1, struct.pack("<d", time.time()))
        summary = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + _number(2, struct.pack("<f", _in_float32(value))))
            for tag, value in values.items()
        )
        event = _record(now + b"\x10" + _varint(step) + _bytes(5, summary))
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            event = _record(now + _bytes(3, b"brain.Event:2")) + event
        with open_to_append(self.path, buffering=0) as file:
            file.write(event)


def _in_float32(value: float) -> float:
    """The value, or infinity where it is too large."""
    return value if abs(value) <= 3.4028234e38 else value * float("inf")


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; the highest bit of a byte says that another one follows."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _bytes(field: int, data: bytes) -> bytes:
    """A field whose length is told before it: a text or a message."""
    return bytes([field << 3 | 2]) + _varint(len(data)) + data


def _number(field: int, data: bytes) -> bytes:
    """A field of eight or four bytes."""
    return bytes([field << 3 | (1 if len(data) == 8 else 5)]) + data


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + 0xA282EAD8) & 0xFFFFFFFF)


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_TABLE = [_entry(byte) for byte in range(256)]
