"""What a candidate's process is sent and answers: a line of JSON each, arrays as base64 of their bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from mltk.errors import MltkError
from mltk.oracle.calling import Outcome, Problem, Request
from mltk.oracle.case import Values
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


def pack_request(asked: Request) -> dict[str, Any]:
    """A request in plain data."""
    return {
        "computation": asked.computation,
        "settings": dict(asked.settings),
        "inputs": _pack(asked.inputs),
        "outputs": list(asked.outputs),
        "shapes": dict(asked.shapes),
        "differentiable": asked.differentiable,
    }


def unpack_request(message: Mapping[str, Any]) -> Request:
    """A request again."""
    return Request(
        message["computation"],
        message["settings"],
        _unpack(message["inputs"]),
        tuple(message["outputs"]),
        message["shapes"],
        message["differentiable"],
    )


def pack_outcome(outcome: Outcome) -> dict[str, Any]:
    """An outcome in plain data."""
    problem = outcome.problem
    return {
        "outputs": None if outcome.outputs is None else _pack(outcome.outputs),
        "problem": None if problem is None else [problem.kind, problem.message],
        "changed": list(outcome.changed),
        "read": None if outcome.read is None else list(outcome.read),
        "derived": outcome.derived,
    }


def unpack_outcome(message: Mapping[str, Any]) -> Outcome:
    """An outcome again.

    Raises:
        MessageError: If the message is none.
    """
    with reading("the message", MessageError, damaged="is no outcome"):
        outputs, problem = message["outputs"], message["problem"]
        if problem is not None:
            problem = Problem(*map(_text, problem))
        outputs = None if outputs is None else _unpack(outputs)
        read = None if message["read"] is None else tuple(map(_text, message["read"]))
        changed, derived = tuple(map(_text, message["changed"])), message["derived"] is True
        return Outcome(outputs, problem, changed, read, derived)


def _start(line: bytes) -> str:
    text = line.decode(errors="replace").rstrip()
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]}…")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"it has {type(value).__name__} in a text's place")
    return value


def _pack(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {"group": _pack(value)}
        if isinstance(value, Mapping)
        else {
            "dtype": value.dtype.newbyteorder("<").str,
            "shape": list(value.shape),
            "bytes": base64.b64encode(value.astype(value.dtype.newbyteorder("<")).tobytes()).decode(),
        }
        for name, value in values.items()
    }


def _unpack(message: Mapping[str, Any]) -> Values:
    return {
        name: _unpack(value["group"])
        if "group" in value
        else np.frombuffer(base64.b64decode(value["bytes"]), value["dtype"]).reshape(value["shape"])
        for name, value in message.items()
    }
