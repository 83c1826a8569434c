"""The file of a run that says what it was trained on: the digests of its classes' examples."""

from __future__ import annotations

import json
from pathlib import Path

from mltk.data.images.class_identity import TrainedOn, trained_on
from mltk.data.source import TaskSource
from mltk.errors import RunError
from mltk.files import replace_file
from mltk.outside import read_bytes, read_json, reading

NAME = "classes.json"

LONGEST = 1 << 28
"""Bytes that the file may have: those of twenty million examples."""


def read_classes(folder: Path) -> TrainedOn | None:
    """The digests of the examples of each class that a run was trained on; ``None`` if it has kept none.

    Raises:
        RunError: If the file is damaged.
    """
    path = folder / NAME
    if not path.exists():
        return None
    with reading(path, RunError):
        classes = read_json(read_bytes(path, most=LONGEST))
        if not isinstance(classes, dict) or not all(isinstance(text, str) for text in classes.values()):
            raise ValueError("it does not hold one text a class")
    return {name: tuple(text.split()) for name, text in classes.items()}


def keep_classes(folder: Path, tasks: TaskSource, *, resumed: bool) -> None:
    """Write down which classes a run is trained on, or check that they are still the same.

    Args:
        folder: The run folder.
        tasks: What is trained on; tasks without classes that have examples of their own leave no file.
        resumed: Whether the run goes on.

    Raises:
        RunError: If a run goes on with other examples, or the file is damaged or cannot be written.
    """
    now, before = trained_on(tasks), read_classes(folder) if resumed else None
    if now is None:
        (folder / NAME).unlink(missing_ok=True)
    elif before is None:
        text = json.dumps({name: " ".join(examples) for name, examples in now.items()}, indent=0)
        replace_file(folder / NAME, lambda file: file.write(text.encode()))
    elif changed := [
        name for name in sorted(now.keys() | before.keys()) if now.get(name) != before.get(name)
    ]:
        more = f" and {len(changed) - 1} more classes" if len(changed) > 1 else ""
        raise RunError(
            f"{folder} holds a run with other examples of {changed[0]!r}{more}; expected those that it was "
            "started with"
        )
