"""What the command line can name: what the public tables of learners, datasets and transforms hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import is_dataclass
from enum import StrEnum
from functools import partial
from importlib.metadata import entry_points
from inspect import Parameter, isabstract, signature
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mltk import algorithms, data
from mltk.optim import transforms
from mltk.plugins import GROUP

SHORT = {
    "CIFARFS": "cifar-fs",
    "ImageFolder": "images",
    "RidgeRegression": "ridge",
    "LogisticRegression": "logistic",
}
"""Names of the command line that are not those of Python."""

COUNTS = {"ways", "shots", "queries"}
"""What the command line knows of any task family."""


def command_name(name: str) -> str:
    """``"LinearRegression"`` is ``linear-regression``, ``"MetaSGD"`` is ``meta-sgd``."""
    words = re.sub("(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name)
    return SHORT.get(name, words.lower())


def parameters_of(make: Any) -> dict[str, bool]:
    """The settings that a class or a function takes, and of each whether it must be given."""
    return {name: one.default is Parameter.empty for name, one in signature(make).parameters.items()}


def needs(make: Any) -> set[str]:
    """The settings that must be given."""
    return {name for name, needed in parameters_of(make).items() if needed}


def _table(module: ModuleType, wanted: Callable[[Any], bool]) -> dict[str, Callable[..., Any]]:
    public = {name: getattr(module, name) for name in module.__all__}
    return {command_name(name): value for name, value in public.items() if wanted(value)}


ALGORITHMS = _table(algorithms, callable) | {"fomaml": partial(algorithms.MAML, first_order=True)}
"""Learners."""

FAMILIES = _table(
    data, lambda value: is_dataclass(value) and hasattr(value, "sample") and needs(value) <= COUNTS
)
"""Task families that are drawn from nothing but numbers."""

IMAGES = _table(
    data, lambda value: is_dataclass(value) and hasattr(value, "held_out") and not isabstract(value)
)
"""Image datasets."""

TRANSFORMS = _table(
    transforms, lambda value: is_dataclass(value) and "transforms" not in parameters_of(value)
)
"""What a learned optimiser learns about its steps, chains of several apart."""

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
