"""What the folder of a toolkit keeps beside the runs: the evidence that decisions are learned from."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mltk.contracts import Backend
from mltk.data.source import TaskSource
from mltk.errors import RunError, UnknownClassError
from mltk.files import replace_file
from mltk.outside import read_bytes, read_json, reading
from mltk.recipes import ALGORITHMS
from mltk.toolkit.evidence import Evidence
from mltk.training.config import from_config, to_config
from mltk.training.runs import SavedRun, load_run

NAME = "toolkit.json"

WARM = " from memory"
"""After the name of a learner: the one whose tasks may start from what similar ones have learned."""

LARGEST = 1 << 28
"""Bytes that it may have."""


class Kept(NamedTuple):
    """What is kept.

    Attributes:
        learners: The names of the learners, which are those of their run folders, and the recipe of each.
        steps: After how many steps of their trainings they were judged.
        settings: ``features``, ``threshold`` and ``seed`` of the toolkit.
        evidence: What decisions are learned from.
        unseen: Where these tasks come from; ``None`` for tasks of one's own, which cannot be made of text.
    """

    learners: dict[str, str | None]
    steps: dict[str, int]
    settings: dict[str, Any]
    evidence: Evidence
    unseen: TaskSource | None

    def check_steps(self, folder: Path, found: dict[str, int]) -> None:
        """Raise `RunError` if learners have been trained for other steps since they were judged."""
        for name, steps in self.steps.items():
            if found[name] != steps:
                raise RunError(
                    f"{folder / name} has {found[name]} steps, but what is decided is by {steps}: a training "
                    "was interrupted; expected a call of train(…) in this folder that ends"
                )


def write_toolkit(folder: Path, kept: Kept) -> None:
    """Write it, in one go."""
    told: dict[str, Any] = {
        "learners": kept.learners,
        "steps": kept.steps,
        "settings": kept.settings,
        "evidence": kept.evidence.to_dict(),
    }
    told["unseen"] = to_config(kept.unseen)
    replace_file(folder / NAME, lambda file: file.write(json.dumps(told).encode()))


def read_toolkit(folder: Path) -> Kept:
    """Read it.

    Raises:
        RunError: If it is not there, or damaged.
    """
    path, unseen = folder / NAME, None
    with reading(path, RunError, damaged="is not what a toolkit writes"):
        told = read_json(read_bytes(path, most=LARGEST))
        names, steps, settings = told["learners"], told["steps"], told["settings"]
        if not isinstance(names, dict) or not set(names.values()) <= {None, *ALGORITHMS}:
            raise ValueError("learners are no names with recipes")
        if steps.keys() != names.keys():
            raise ValueError("steps are those of other learners")
        if settings.keys() != {"features", "threshold", "seed"} or not isinstance(settings["features"], list):
            raise ValueError("settings are missing")
        evidence = Evidence.from_dict(told["evidence"])
        if {name.removesuffix(WARM) for name in evidence.learners} != set(names):
            raise ValueError("the evidence is of other learners")
        with suppress(RunError):
            unseen = from_config(told["unseen"])
        return Kept(names, steps, settings, evidence, unseen)


def read_learner(folder: Path, name: str, given: Any, backend: Backend | None) -> SavedRun:
    """The run of a learner of a toolkit, from its folder.

    Args:
        folder: That of the toolkit.
        name: What the learner is called.
        given: The learner, where it is none of mltk's own; else ``None``.
        backend: Where to compute; ``None`` for where it was trained.

    Raises:
        RunError: If there is none, it is damaged, or it is none of mltk's own and was not given.
    """
    try:
        return load_run(folder / name, algorithm=given, backend=backend)
    except RunError as error:
        if given is not None or not isinstance(error.__cause__, UnknownClassError):
            raise
        hint = f"give the learner itself, as in load(..., learners={{{name!r}: ...}})"
        raise RunError(f"{folder / name}: {error.__cause__}; {hint}") from error
