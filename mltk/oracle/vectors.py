"""Test vectors: cases with their exact outputs, a JSON file for each computation, readable without mltk.

The files are the source of the cases: `mltk.oracle.editing` adds and changes them. Their outputs are computed
in 50 digits and rounded once, so the bytes are the same on every machine; two independent ways in float64
have to agree before a file is written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from functools import cache, partial
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO

import numpy as np

from mltk.errors import SettingError
from mltk.files import replace_file
from mltk.oracle.case import Case, mapped
from mltk.oracle.computation import Computation
from mltk.oracle.confirmation import VectorError, complete
from mltk.oracle.definitions.tensor import DIGITS
from mltk.outside import read_json, reading

FORMAT = 1
FOLDER = "vectors"
WIDTH = 110
MARGIN = 4
"""How many times a disagreement on this machine others may find, without a change of what is recorded."""


def document(computation: Computation, drafts: Iterable[Case] | None = None) -> dict[str, Any]:
    """The content of a computation's file, its outputs computed anew.

    Args:
        computation: What is computed.
        drafts: The cases, whose outputs do not count; ``None`` for those that come with mltk.

    Raises:
        VectorError: If independent ways disagree on a case.
    """
    cases, worst = [], dict.fromkeys(computation.routes, 0.0)
    for draft in stored(computation.name) if drafts is None else drafts:
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
        file = json.loads(_packaged(name).read_text(encoding="utf-8"))
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
        **({"tie": True} if case.tie else {}),
        **({"least_condition": case.least_condition} if case.least_condition != 1 else {}),
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
    for computation in computations:
        content = _packaged(computation.name).read_bytes()
        path = folder / f"{computation.name}.json"
        replace_file(path, partial(_write_bytes, content))
        yield computation, path, json.loads(content)


def write(
    computations: Iterable[Computation], folder: Path
) -> Iterable[tuple[Computation, Path, dict[str, Any]]]:
    """Compute anew and write the files that come with mltk, one after the other, each whole or not at all."""
    for computation in computations:
        content, path = document(computation), folder / f"{computation.name}.json"
        write_document(path, content)
        yield computation, path, content


def write_document(path: Path, content: Mapping[str, Any]) -> None:
    """Write the content of a file, whole or not at all; its folder is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, partial(_write_bytes, f"{to_text(content)}\n".encode()))


def differences(computation: Computation) -> list[str]:
    """What is not as it is computed anew in the file that comes with mltk, byte for byte.

    Returns:
        Names of cases, or what else it is; empty if there is no difference.
    """
    text = _packaged(computation.name).read_text(encoding="utf-8")
    try:
        content, anew = read_json(text), document(computation)
    except VectorError as error:
        return [str(error)]
    if text == f"{to_text(anew)}\n":
        return []
    pairs = zip(content["cases"], anew["cases"], strict=True)
    return [new["name"] for old, new in pairs if to_text(old) != to_text(new)] or ["what all cases share"]


def _write_bytes(content: bytes, file: BinaryIO) -> None:
    file.write(content)


def _packaged(name: str) -> Traversable:
    return resources.files("mltk.oracle") / FOLDER / f"{name}.json"


@cache
def stored(name: str) -> tuple[Case, ...]:
    """The cases of a computation that come with mltk.

    Raises:
        SettingError: If there are none of that name.
    """
    file = _packaged(name)
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
        return tuple(case_of(each) for each in content["cases"])


def case_of(content: Mapping[str, Any]) -> Case:
    """The case that an entry of a file describes.

    Raises:
        KeyError, TypeError, ValueError: If it describes none.
    """

    def field(name: str, kinds: type | UnionType, *default: Any) -> Any:
        value = content.get(name, *default)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise TypeError(f"a case has {type(value).__name__} as its {name}")
        return value

    return Case(
        name=field("name", str),
        kind=field("kind", str),
        comment=field("comment", str),
        settings=field("settings", dict),
        inputs=mapped(_array, field("inputs", dict)),
        expected=mapped(_array, field("expected", dict, {})),
        raises=field("raises", str | None),
        condition=field("condition", int | float),
        least_condition=field("least_condition", int | float, 1.0),
        tie=field("tie", bool, False),
        convention=field("convention", str | None),
    )


def _array(value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiU":
        raise ValueError(f"an array has {array.dtype} in it; expected numbers")
    return array.astype(np.float64) if array.dtype.kind == "U" else array
