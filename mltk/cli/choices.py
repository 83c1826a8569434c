"""What the command line can name: what the public tables of learners, datasets and transforms hold."""

from __future__ import annotations

from enum import StrEnum
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from mltk.plugins import GROUP
from mltk.recipes import ALGORITHMS, FAMILIES, IMAGES, TRANSFORMS

if TYPE_CHECKING:
    AlgorithmName = str
    DataName = str
    TransformName = str
else:  # Typer takes choices from enumerations
    AlgorithmName = StrEnum("AlgorithmName", list(ALGORITHMS))
    DataName = StrEnum("DataName", [*FAMILIES, *IMAGES])
    TransformName = StrEnum("TransformName", list(TRANSFORMS))


class Protocol(StrEnum):
    """Tests of a trained learner."""

    UNSEEN_TASKS = "unseen-tasks"
    OMNIGLOT_CHALLENGE = "omniglot-challenge"


class Dtype(StrEnum):
    """Precisions."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"


def backend_names() -> list[str]:
    """The installed backends."""
    return sorted(entry_points(group=GROUP).names)
