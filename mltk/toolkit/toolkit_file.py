"""What the folder of a toolkit keeps beside the runs: the evidence that decisions are learned from."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from mltk.data.source import TaskSource
from mltk.errors import RunError
from mltk.files import replace_file
from mltk.outside import read_bytes, read_json, reading
from mltk.recipes import ALGORITHMS
from mltk.toolkit.evidence import Evidence
from mltk.training.config import from_config, to_config

NAME = "toolkit.json"

WARM = " from memory"
"""After the name of a learner: the one whose tasks may start from what similar ones have learned."""

LARGEST = 1 << 28
"""Bytes that it may have."""


class Kept(NamedTuple):
    """What is kept.

    Attributes:
        learners: The names of the learners, which are those of their run folders, and the recipe of each.
        settings: ``features``, ``threshold`` and ``seed`` of the toolkit.
        evidence: What decisions are learned from.
        unseen: Where these tasks come from; ``None`` for tasks of one's own, which cannot be made of text.
    """

    learners: dict[str, str | None]
    settings: dict[str, Any]
    evidence: Evidence
    unseen: TaskSource | None


def write_toolkit(folder: Path, kept: Kept) -> None:
    """Write it, in one go."""
    told: dict[str, Any] = {
        "learners": kept.learners,
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
        names, settings = told["learners"], told["settings"]
        if not isinstance(names, dict) or not set(names.values()) <= {None, *ALGORITHMS}:
            raise ValueError("learners are no names with recipes")
        if settings.keys() != {"features", "threshold", "seed"} or not isinstance(settings["features"], list):
            raise ValueError("settings are missing")
        evidence = Evidence.from_dict(told["evidence"])
        if {name.removesuffix(WARM) for name in evidence.learners} != set(names):
            raise ValueError("the evidence is of other learners")
        with suppress(RunError):
            unseen = from_config(told["unseen"])
        return Kept(names, settings, evidence, unseen)
