"""What a candidate's process is sent and answers, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mltk.messages import MessageError, pack, unpack
from mltk.oracle.calling import Outcome, Problem, Request
from mltk.outside import reading


def pack_request(asked: Request) -> dict[str, Any]:
    """A request in plain data."""
    return {
        "computation": asked.computation,
        "settings": dict(asked.settings),
        "inputs": pack(asked.inputs),
        "outputs": list(asked.outputs),
        "shapes": dict(asked.shapes),
        "differentiable": asked.differentiable,
    }


def unpack_request(message: Mapping[str, Any]) -> Request:
    """A request again."""
    return Request(
        message["computation"],
        message["settings"],
        unpack(message["inputs"]),
        tuple(message["outputs"]),
        message["shapes"],
        message["differentiable"],
    )


def pack_outcome(outcome: Outcome) -> dict[str, Any]:
    """An outcome in plain data."""
    problem = outcome.problem
    return {
        "outputs": None if outcome.outputs is None else pack(outcome.outputs),
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
        outputs = None if outputs is None else unpack(outputs)
        read = None if message["read"] is None else tuple(map(_text, message["read"]))
        changed, derived = tuple(map(_text, message["changed"])), message["derived"] is True
        return Outcome(outputs, problem, changed, read, derived)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"it has {type(value).__name__} in a text's place")
    return value
