"""What a candidate is asked and what comes of it, also as plain data for a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mltk.messages import MessageError, pack, unpack
from mltk.oracle.case import Case, Values, mapped
from mltk.oracle.computation import Computation
from mltk.outside import reading


@dataclass(frozen=True)
class Problem:
    """Why the outputs of a call cannot be judged.

    Attributes:
        kind: ``"hangs"``, ``"crashes"``, ``"raises"``, ``"unsupported"``, ``"malformed"``, ``"wrong-names"``,
            ``"wrong-shapes"`` or ``"not-finite"``.
        message: What was found, and what was expected.
    """

    kind: str
    message: str


@dataclass(frozen=True)
class Outcome:
    """What came of a call.

    Attributes:
        outputs: In NumPy's float64; ``None`` if there is a problem.
        problem: Why there are none.
        changed: Dotted names of the inputs that the call changed.
        read: The settings that the call has read; ``None`` where that is not known.
        derived: Whether the gradients are those of the returned loss or logits, by Torch's autograd.
    """

    outputs: Values | None
    problem: Problem | None
    changed: tuple[str, ...] = ()
    read: tuple[str, ...] | None = None
    derived: bool = False


@dataclass(frozen=True)
class Request:
    """A case, without what a candidate must not see.

    Attributes:
        computation: Its name.
        settings: Of the case.
        inputs: Of the case.
        outputs: The names of what may be returned; the first is that of a bare array.
        shapes: The shapes of the expected outputs, groups as dicts; empty if nothing is expected.
        differentiable: See `Computation`.
    """

    computation: str
    settings: Mapping[str, Any]
    inputs: Values
    outputs: tuple[str, ...]
    shapes: Mapping[str, Any]
    differentiable: bool = False


def request(computation: Computation, case: Case) -> Request:
    """What a candidate is asked in a case."""
    return Request(
        computation.name,
        case.settings,
        case.inputs,
        tuple(computation.outputs),
        mapped(lambda array: list(array.shape), case.expected),
        computation.differentiable,
    )


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
