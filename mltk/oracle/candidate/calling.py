"""One call of a candidate: what it is given, and whether what it returns has the right form."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import numpy as np

from mltk.errors import UnsupportedError
from mltk.oracle.candidate.autograd import gradients_of
from mltk.oracle.candidate.conversion import FormError, converter, given_back, kind, precision, returned
from mltk.oracle.candidate.request import Outcome, Problem, Request
from mltk.oracle.candidate.settings import Settings
from mltk.oracle.case import Values, flat, mapped

Candidate = Callable[[dict[str, Any], SimpleNamespace, Settings], Any]
"""From parameters, data and settings to what is judged."""

FRAMES = 3
"""How many of the innermost lines of a candidate's own files are shown."""

LONGEST = 2000
"""Characters of an error's message that are shown."""

ORACLE = Path(__file__).parents[:2]
"""Folders whose files are never the candidate's own."""

SHOWN = 6
"""How many names a message lists."""


def call(function: Candidate, asked: Request, *, arrays: str, dtype: str, folder: Path | None) -> Outcome:
    """Call a candidate once.

    Args:
        function: The candidate.
        asked: What it is given.
        arrays: The library of its arrays.
        dtype: Their precision.
        folder: Where the candidate's own files are, for the places that an error names.
    """
    with precision(arrays, dtype):
        inputs = mapped(converter(arrays, dtype), asked.inputs)
        objects = flat(inputs)
        before = {name: given_back(array) for name, array in objects.items()}
        settings = Settings(asked.settings)
        try:
            value = _called(function, inputs, settings)
        except (NotImplementedError, UnsupportedError) as error:
            return Outcome(None, Problem("unsupported", _message(error)))
        except BaseException as error:  # a candidate may raise anything, SystemExit as well
            return Outcome(None, Problem("raises", describe(error, folder)))
        now = flat(inputs)
        changed = tuple(
            name
            for name, array in objects.items()
            if now.get(name) is not array or not _holds(array, before[name])
        ) + tuple(name for name in now if name not in objects)
        derived = False
        try:
            named = _named(value, asked)
            if arrays == "torch" and asked.differentiable and asked.shapes and "gradients" not in named:
                gradients = _derived(function, asked, converter(arrays, dtype))
                derived = gradients is not None
                named = {**named, "gradients": gradients} if derived else named
            outputs = judged(named, asked.shapes, dtype)
        except _WrongFormError as problem:
            return Outcome(None, problem.problem, changed)
        except MemoryError:
            raise
        except Exception as error:  # what was returned may be of any class, and its methods raise anything
            what = f"what was returned cannot be looked at: {describe(error, folder)}"
            return Outcome(None, Problem("malformed", what), changed)
    return Outcome(outputs, None, changed, settings.uses[0], derived)


def _called(function: Candidate, inputs: Mapping[str, Any], settings: Settings) -> Any:
    data = SimpleNamespace(**{name: value for name, value in inputs.items() if name != "params"})
    return function(inputs.get("params", {}), data, settings)


def _derived(function: Candidate, asked: Request, convert: Callable[[np.ndarray], Any]) -> Any:
    """The gradients of what is returned for inputs that Torch differentiates for, if there is a graph."""
    inputs, settings = mapped(convert, asked.inputs), Settings(asked.settings)
    params, given = inputs.get("params", {}), dict(inputs)
    names = [*asked.shapes["gradients"]]
    leaves = {name: (params[name] if name in params else inputs[name]).requires_grad_() for name in names}
    given |= {"params": dict(params)} if params else {}
    try:
        value = _named(_called(function, given, settings), asked)
        ways = asked.settings.get("ways")
        return gradients_of(value, inputs["query_y"], leaves, settings.uses[1], ways=ways)
    except Exception:  # it works without a graph alone, as its first call has shown
        return None


def outcome_of(value: Any, asked: Request, dtype: str) -> Outcome:
    """The outcome of a call that returned arrays of NumPy."""
    try:
        return Outcome(judged(_named(value, asked), asked.shapes, dtype), None)
    except _WrongFormError as problem:
        return Outcome(None, problem.problem)


def judged(outputs: Mapping[str, Any], shapes: Mapping[str, Any], dtype: str) -> Values:
    """Outputs under their names in NumPy, their names, shapes and numbers looked at.

    Where nothing is expected, only the numbers are.
    """
    groups = {name for name, value in outputs.items() if isinstance(shapes.get(name, value), Mapping)}
    for name in groups & shapes.keys():
        _check_group(name, outputs[name], shapes[name])
    extents = flat(shapes)
    wrong = []
    for name, value in flat(outputs).items():
        shape = getattr(value, "shape", None)  # looked at first: too large an array is not worth converting
        shape = tuple(shape) if isinstance(shape, tuple) else _array(name, value, dtype).shape
        if name in extents and shape != tuple(extents[name]):
            wrong.append(f"{name} has shape {shape}; expected {tuple(extents[name])}")
    if wrong:
        raise _WrongFormError("wrong-shapes", some(wrong, "; "))
    found: Values = {
        name: {key: _array(f"{name}.{key}", each, dtype) for key, each in value.items()}
        if name in groups
        else _array(name, value, dtype)
        for name, value in outputs.items()
    }
    spoilt = [name for name, array in flat(found).items() if not np.isfinite(array).all()]
    if spoilt:
        raise _WrongFormError("not-finite", f"NaN or infinity in {some(spoilt)}")
    return found


def describe(error: BaseException, folder: Path | None) -> str:
    """An error's class and message, and where in the candidate's own files it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{_message(error)}{places(frames, folder)}"


def places(frames: Iterable[traceback.FrameSummary], folder: Path | None) -> str:
    """The innermost lines of code that are the candidate's own, a line each; empty if none is."""
    own = [frame for frame in frames if _is_own(Path(frame.filename), folder)]
    return "".join(
        f"\n  {_short(Path(frame.filename))}, line {frame.lineno}, in {frame.name}"
        + (f": {frame.line}" if frame.line else "")
        for frame in own[-FRAMES:]
    )


def stack(frame: FrameType | None) -> list[traceback.FrameSummary]:
    """Where a running thread is."""
    return list(traceback.extract_stack(frame)) if frame else []


def some(texts: Iterable[str], separator: str = ", ") -> str:
    """The first few of many texts."""
    texts = list(texts)
    rest = len(texts) - SHOWN
    return separator.join(texts[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


class _WrongFormError(Exception):
    """The form of what was returned is wrong."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(kind, message)


def _named(value: Any, asked: Request) -> Mapping[str, Any]:
    """What a candidate returned, under the names of the computation's outputs."""
    choices = ", ".join(asked.outputs)
    if isinstance(value, Mapping):
        if not value or not set(value) <= set(asked.outputs):
            names = some(map(repr, value)) or "none"
            raise _WrongFormError(
                "wrong-names", f"the returned dict has the names {names}; expected some of {choices}"
            )
        return {str(name): each for name, each in value.items()}
    if isinstance(value, tuple | list):
        if len(value) == 2 and {"loss", "gradients"} <= set(asked.outputs):
            return {"loss": value[0], "gradients": value[1]}
        raise _WrongFormError(
            "malformed",
            f"returned {kind(value)} of {len(value)}; expected the pair (loss, gradients), "
            f"an array ({asked.outputs[0]}) or a dict with some of {choices}",
        )
    return {asked.outputs[0]: value}


def _check_group(name: str, value: Any, expected: Mapping[str, Any]) -> None:
    if not isinstance(value, Mapping):
        raise _WrongFormError(
            "malformed", f"{name} is {kind(value)}; expected a dict with the names {some(expected)}"
        )
    if set(value) != set(expected):
        missing = [key for key in expected if key not in value]
        beyond = [str(key) for key in value if key not in expected]
        parts = [f"{some(missing)} missing"] * bool(missing) + [f"{some(beyond)} too many"] * bool(beyond)
        raise _WrongFormError(
            "wrong-names", f"{name}: {'; '.join(parts)}; expected the names {some(expected)}"
        )


def _array(name: str, value: Any, dtype: str) -> np.ndarray:
    try:
        return returned(value, dtype)
    except FormError as error:
        raise _WrongFormError("malformed", f"{name} {error}") from None


def _holds(array: Any, content: np.ndarray) -> bool:
    """Whether an array that was given away still holds what it held."""
    try:
        now = given_back(array)
    except Exception:  # deleted by the candidate, as JAX does with donated arrays
        return False
    return now.dtype == content.dtype and np.array_equal(now, content, equal_nan=now.dtype.kind == "f")


def _message(error: BaseException) -> str:
    try:
        text = str(error)[:LONGEST]
    except Exception:  # the candidate's own class may be broken, too
        text = "its message cannot be shown"
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def _is_own(file: Path, folder: Path | None) -> bool:
    if folder is None or not file.is_relative_to(folder) or file.parent in ORACLE:
        return False
    return "site-packages" not in file.relative_to(folder).parts


def _short(file: Path) -> Path:
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
