"""Test vectors: cases with their exact outputs, a JSON file for each computation, readable without mltk.

The outputs are computed in 50 digits and rounded once, so the bytes are the same on every machine; two
independent ways in float64 must agree before a file is written.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from functools import cache, partial
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO

import numpy as np

from mltk.errors import MltkError, SettingError
from mltk.files import replace_file
from mltk.oracle.case import Case, Values, flat
from mltk.oracle.computation import Computation
from mltk.oracle.exact.tensor import DIGITS, Tensor, constant
from mltk.oracle.judgement import disagreement, tolerance
from mltk.outside import read_json, reading

FORMAT = 1
FOLDER = "vectors"
WIDTH = 110
FIELDS: dict[str, type | UnionType] = {
    "name": str,
    "kind": str,
    "comment": str,
    "settings": dict,
    "inputs": dict,
    "raises": str | None,
    "condition": int | float,
}
"""What each case has, and of which type; ``raises`` may be absent."""

MARGIN = 4
"""How many times a disagreement on this machine others may find, without a change of what is recorded."""

CHANGE = 2.0**-80
"""The relative change of the inputs that measures the condition of a case; 50 digits resolve its square."""


class VectorError(MltkError):
    """Independent ways disagree on a test vector, or a file of vectors is not valid."""


def complete(computation: Computation, case: Case) -> tuple[Case, dict[str, float]]:
    """A case with its outputs, and how far each way in float64 is from them.

    Raises:
        VectorError: If a way disagrees by more than rounding errors can, or does not raise where it must.
    """
    if case.kind == "must-raise":
        return _refused(computation, case), {}
    exact = computation.exact(case.settings, case.inputs)
    expected = rounded(exact)
    condition = case.condition if case.tie else max(case.condition, _condition(computation, case, exact))
    condition = max(condition, float(f"{computation.cancellation(case.settings, case.inputs, expected):.1e}"))
    case = dataclasses.replace(case, expected=expected, condition=condition)
    found = {}
    for name, route in computation.routes.items():
        outputs = route(case.settings, case.inputs)
        found[name] = disagreement(outputs, expected)
        allowed = tolerance(case, np.dtype(np.float64))
        if not found[name] <= allowed:
            raise VectorError(
                f"{computation.name}, {case.name}: {name} is {found[name]:.1e} from the 50-digit outputs; "
                f"expected at most {allowed:.1e}"
            )
    return case, found


def rounded(exact: Values) -> Values:
    """Outputs of 50 digits, to the nearest float64."""
    return {
        key: {name: constant(array).double() for name, array in value.items()}
        if isinstance(value, dict)
        else constant(value).double()
        for key, value in exact.items()
    }


def _condition(computation: Computation, case: Case, exact: Values) -> float:
    """How much a small relative change of the inputs grows, measured in 50 digits; two digits are kept."""
    rng = np.random.default_rng(0)

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: changed(array) for name, array in value.items()}
        if value.dtype.kind != "f":
            return value
        scale = np.abs(value).max(initial=0.0)
        return (constant(value) + constant(CHANGE * scale * rng.uniform(-1, 1, value.shape))).value

    inputs = {name: changed(value) for name, value in case.inputs.items()}
    moved = computation.exact(case.settings, inputs)
    before, after = flat(exact), flat(moved)
    growth = 1.0
    for group in exact:
        names = [name for name in before if name.partition(".")[0] == group]
        difference = max(_largest(constant(after[name]) - constant(before[name])) for name in names)
        scale = max(_largest(constant(before[name])) for name in names)
        if scale:
            growth = max(growth, difference / scale / CHANGE)
    return float(f"{growth:.1e}")


def _largest(tensor: Tensor) -> float:
    return float(max((abs(number) for number in tensor.value.flat), default=0))


def _refused(computation: Computation, case: Case) -> Case:
    """A case that must raise, with the class of the error that every way raises."""
    classes = set()
    for name, route in computation.routes.items():
        try:
            route(case.settings, case.inputs)
        except MltkError as error:
            classes.add(type(error).__name__)
        else:
            raise VectorError(f"{computation.name}, {case.name}: {name} accepts what must raise")
    if len(classes) != 1:
        raise VectorError(f"{computation.name}, {case.name}: the ways raise {', '.join(sorted(classes))}")
    return dataclasses.replace(case, raises=classes.pop())


def document(computation: Computation) -> dict[str, Any]:
    """The content of a computation's file."""
    cases, worst = [], dict.fromkeys(computation.routes, 0.0)
    for draft in computation.cases():
        case, found = complete(computation, draft)
        cases.append(case)
        worst |= {name: max(worst[name], value) for name, value in found.items()}
    return {
        "format": FORMAT,
        "computation": computation.name,
        "summary": computation.summary,
        "outputs": dict(computation.outputs),
        "confirmed": {
            "digits": DIGITS,
            "largest_disagreement": _recorded(computation.name, worst),
        },
        "cases": [_case_document(case) for case in cases],
    }


def _recorded(name: str, found: Mapping[str, float]) -> dict[str, float]:
    """The largest disagreements: as in the file that comes with mltk, unless larger ones were found.

    The last digits of float64 depend on the machine, and the files must not: what is recorded anew is rounded
    up, with a margin for other machines.
    """
    try:
        file = json.loads((resources.files("mltk.oracle") / FOLDER / f"{name}.json").read_text("utf-8"))
        known = {route: float(value) for route, value in file["confirmed"]["largest_disagreement"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        known = {}
    return {
        route: known[route] if value <= known.get(route, -1.0) else float(f"{MARGIN * value + 1e-16:.0e}")
        for route, value in found.items()
    }


def _case_document(case: Case) -> dict[str, Any]:
    outcome: dict[str, Any] = {"raises": case.raises} if case.raises else {"expected": _plain(case.expected)}
    return {
        "name": case.name,
        "kind": case.kind,
        "comment": case.comment,
        **({"convention": case.convention} if case.convention else {}),
        "condition": case.condition,
        "settings": dict(case.settings),
        "inputs": _plain(case.inputs),
        **outcome,
    }


def _plain(value: Any) -> Any:
    """Arrays as nested lists; numbers that JSON lacks as text."""
    if isinstance(value, Mapping):
        return {name: _plain(array) for name, array in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def to_text(value: Any, indent: int = 0) -> str:
    """JSON that a person can read: what fits on a line stands on one, lists of numbers always do."""
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    short = indent and len(line) + indent <= WIDTH
    step = "\n" + " " * (indent + 1)
    if isinstance(value, dict) and value and not short:
        entries = [f"{json.dumps(key)}: {to_text(each, indent + 1)}" for key, each in value.items()]
        return "{" + step + f",{step}".join(entries) + step[:-1] + "}"
    if isinstance(value, list) and value and isinstance(value[0], dict) and not short:
        return "[" + step + f",{step}".join(to_text(each, indent + 1) for each in value) + step[:-1] + "]"
    return line


def copy(
    computations: Iterable[Computation], folder: Path
) -> Iterable[tuple[Computation, Path, dict[str, Any]]]:
    """Copy the files that come with mltk, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    packaged = resources.files("mltk.oracle") / FOLDER
    for computation in computations:
        name = f"{computation.name}.json"
        content = (packaged / name).read_bytes()
        replace_file(folder / name, partial(_write_bytes, content))
        yield computation, folder / name, json.loads(content)


def write(
    computations: Iterable[Computation], folder: Path
) -> Iterable[tuple[Computation, Path, dict[str, Any]]]:
    """Compute and write the files, one after the other, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for computation in computations:
        content = document(computation)
        path = folder / f"{computation.name}.json"
        replace_file(path, partial(_write_bytes, f"{to_text(content)}\n".encode()))
        yield computation, path, content


def _write_bytes(content: bytes, file: BinaryIO) -> None:
    file.write(content)


@cache
def stored(name: str) -> tuple[Case, ...]:
    """The cases of a computation that come with mltk.

    Raises:
        SettingError: If there are none of that name.
    """
    file = resources.files("mltk.oracle") / FOLDER / f"{name}.json"
    if not file.is_file():
        raise SettingError(f"there are no test vectors of {name!r}")
    return read(file.read_text(encoding="utf-8"), str(file))


def read(text: str | bytes, name: str = "the text") -> tuple[Case, ...]:
    """The cases of a file's text.

    Args:
        text: The text.
        name: What to call it in an error.

    Raises:
        VectorError: If the text is not a file of vectors of this format.
    """
    with reading(name, VectorError, damaged="is no file of test vectors"):
        content = read_json(text)
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}; expected {FORMAT}")
        return tuple(_case(each) for each in content["cases"])


def _case(content: Mapping[str, Any]) -> Case:
    for name, kinds in FIELDS.items():
        if not isinstance(content.get(name), kinds) or isinstance(content.get(name), bool):
            raise TypeError(f"a case has {type(content.get(name)).__name__} as its {name}")
    return Case(
        content["name"],
        content["kind"],
        content["comment"],
        content["settings"],
        _arrays(content["inputs"]),
        _arrays(content.get("expected", {})),
        content.get("raises"),
        content["condition"],
        convention=content.get("convention"),
    )


def _arrays(content: Mapping[str, Any]) -> Values:
    return {
        name: _arrays(value) if isinstance(value, dict) else _array(value) for name, value in content.items()
    }


def _array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiU":
        raise ValueError(f"an array has {array.dtype} in it; expected numbers")
    return array.astype(np.float64) if array.dtype.kind == "U" else array
