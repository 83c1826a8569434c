"""What processes tell each other: a line of JSON a message, arrays as base64 of their bytes; no pickles."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from mltk.errors import MltkError
from mltk.outside import read_json, reading

LONGEST = 1 << 26
"""Bytes that a line may have."""

SHOWN = 60
"""Characters of a line that an error shows."""


class MessageError(MltkError):
    """A line is not what the other side says."""


def to_line(message: Mapping[str, Any]) -> bytes:
    """One line."""
    return json.dumps(message).encode() + b"\n"


def from_line(line: bytes) -> dict[str, Any]:
    """What a line says.

    Raises:
        MessageError: If it is no message.
    """
    with reading(f"the line {_start(line)}", MessageError, damaged="is no message"):
        message = read_json(line)
        if not isinstance(message, dict):
            raise TypeError(f"it is {type(message).__name__}; expected an object")
    return message


def pack(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays, and groups of them, in plain data."""
    return {
        name: {"group": pack(value)}
        if isinstance(value, Mapping)
        else {
            "dtype": value.dtype.newbyteorder("<").str,
            "shape": list(value.shape),
            "bytes": base64.b64encode(value.astype(value.dtype.newbyteorder("<")).tobytes()).decode(),
        }
        for name, value in arrays.items()
    }


def unpack(message: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays again; whatever is wrong with a message from outside is raised as it comes: see `reading`."""
    return {
        name: unpack(value["group"])
        if "group" in value
        else np.frombuffer(base64.b64decode(value["bytes"]), value["dtype"]).reshape(value["shape"])
        for name, value in message.items()
    }


def _start(line: bytes) -> str:
    text = line.decode(errors="replace").rstrip()
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")
