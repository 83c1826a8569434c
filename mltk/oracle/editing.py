"""Changes of the test vectors: cases are added, replaced, removed and renamed, and their outputs computed.

A case is written as an entry of a file of vectors: settings and inputs, a name, a kind, a comment, and in
some cases ``tie``, ``convention`` or ``least_condition``. What is ``expected`` of it is found.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from mltk.checks import check_choice
from mltk.errors import SettingError
from mltk.oracle.case import Case, Kind
from mltk.oracle.computation import Computation
from mltk.oracle.confirmation import VectorError
from mltk.oracle.vectors import FOLDER, case_of, document, read, stored, write_document
from mltk.outside import read_json, reading

NAME = re.compile("[a-z0-9]+(-[a-z0-9]+)*")
KNOWN = {field.name for field in dataclasses.fields(Case)}


def drafts(text: str | bytes, name: str = "the text") -> tuple[Case, ...]:
    """The cases that a text describes: one entry of a file of vectors, or a list of them.

    Args:
        text: JSON. Outputs in it are thrown away.
        name: What to call it in an error.

    Raises:
        VectorError: If it describes none.
    """
    with reading(name, VectorError, damaged="is no case"):
        content = read_json(text)
        return tuple(_draft(each) for each in (content if isinstance(content, list) else [content]))


def _draft(content: Mapping[str, Any]) -> Case:
    if strangers := content.keys() - KNOWN:
        raise ValueError(f"a case has no {', '.join(sorted(strangers))}; it has {', '.join(sorted(KNOWN))}")
    case = case_of({"condition": 1.0, **content})
    check_choice("kind", case.kind, get_args(Kind))
    if not NAME.fullmatch(case.name) or not case.comment:
        raise ValueError(
            f"a case has the name {case.name!r}; expected lower case with hyphens, and a comment"
        )
    return case


def edited(
    cases: Iterable[Case],
    *,
    add: Iterable[Case] = (),
    replace: Iterable[Case] = (),
    remove: Iterable[str] = (),
    rename: Mapping[str, str] | None = None,
) -> tuple[Case, ...]:
    """Cases with some of them changed; the others stay as they are and where they are.

    Args:
        cases: Of a computation.
        add: New ones, which come last.
        replace: What stands in place of those of their names.
        remove: Names.
        rename: From old to new names.

    Raises:
        SettingError: If there is no case of a name, or two have the same.
    """
    kept = {case.name: case for case in cases}
    for old, new in (rename or {}).items():
        check_choice("case", old, kept)
        kept[old] = dataclasses.replace(kept[old], name=new)
    for case in replace:
        check_choice("case", case.name, kept)
        kept[case.name] = case
    for name in remove:
        check_choice("case", name, kept)
        del kept[name]
    changed = (*kept.values(), *add)
    names = [case.name for case in changed]
    if twice := {name for name in names if names.count(name) > 1}:
        raise SettingError(f"there would be two cases of the name {', '.join(sorted(twice))}; expected one")
    return changed


def edit(computation: Computation, folder: Path | None = None, **changes: Any) -> tuple[Path, dict[str, Any]]:
    """Change the cases of a computation, compute and confirm all, and write its file, whole or not at all.

    Args:
        computation: Whose cases.
        folder: Of the files; ``None`` for that of the package. A file that is not there is made.
        changes: See `edited`; without any the outputs are computed anew.

    Returns:
        The file and its content.

    Raises:
        SettingError: See `edited`.
        VectorError: If independent ways disagree on a case, or the file is damaged.
    """
    folder = Path(str(resources.files("mltk.oracle") / FOLDER)) if folder is None else folder
    path = folder / f"{computation.name}.json"
    before = read(path.read_bytes(), str(path)) if path.exists() else ()
    content = document(computation, edited(before, **changes))
    write_document(path, content)
    stored.cache_clear()
    return path, content
