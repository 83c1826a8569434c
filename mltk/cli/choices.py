"""What the command line can name: learners, task families and backends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import entry_points
from typing import Any

from mltk import algorithms, data, models
from mltk.backend import GROUP
from mltk.errors import SettingError

HIDDEN = (40, 40)
"""The hidden layers of every default network, those of Finn et al. (2017) for sinusoids."""


class AlgorithmName(StrEnum):
    """Learners."""

    MAML = "maml"
    FOMAML = "fomaml"
    META_SGD = "meta-sgd"
    ANIL = "anil"
    BOIL = "boil"
    REPTILE = "reptile"
    IMPLICIT_MAML = "implicit-maml"


class DataName(StrEnum):
    """Task families."""

    SINUSOID = "sinusoid"
    HARMONIC = "harmonic"
    LINEAR_REGRESSION = "linear-regression"
    BLOBS = "blobs"


class Dtype(StrEnum):
    """Precisions."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"


@dataclass(frozen=True)
class Family:
    """A task family, and what suits it.

    Attributes:
        make: The tasks, from ways (``None`` for regression), shots and queries.
        ways: Default number of classes; ``None`` for regression.
        shots: Default support examples, of each class if there are classes.
        queries: Default query examples, likewise.
        inner: Settings of the inner loop in place of a learner's own defaults.
    """

    make: Callable[[Any, int, int], data.TaskSource]
    ways: int | None
    shots: int
    queries: int
    inner: dict[str, Any] = field(default_factory=dict)


FAMILIES = {
    DataName.SINUSOID: Family(lambda _, shots, queries: data.Sinusoid(shots, queries), None, 10, 10),
    DataName.HARMONIC: Family(lambda _, shots, queries: data.Harmonic(shots, queries), None, 20, 20),
    # One input, so that the fits can be drawn.
    DataName.LINEAR_REGRESSION: Family(
        lambda _, shots, queries: data.LinearRegression(shots, queries, features=1), None, 10, 10
    ),
    DataName.BLOBS: Family(data.Blobs, 5, 5, 15, {"inner_lr": 0.5, "inner_steps": 5}),
}

LEARNERS: dict[AlgorithmName, tuple[Callable[..., Any], dict[str, Any]]] = {
    AlgorithmName.MAML: (algorithms.MAML, {}),
    AlgorithmName.FOMAML: (algorithms.MAML, {"first_order": True}),
    AlgorithmName.META_SGD: (algorithms.MetaSGD, {"inner_lr": (0.005, 0.1)}),
    AlgorithmName.ANIL: (algorithms.ANIL, {}),
    AlgorithmName.BOIL: (algorithms.BOIL, {}),
    AlgorithmName.REPTILE: (algorithms.Reptile, {}),
    AlgorithmName.IMPLICIT_MAML: (algorithms.ImplicitMAML, {"inner_lr": 0.01, "inner_steps": 16}),
}


def make_tasks(
    name: DataName, *, ways: int | None, shots: int | None, queries: int | None
) -> data.TaskSource:
    """A task family, with its own defaults for what is ``None``.

    Raises:
        SettingError: If ways are given for a regression family.
    """
    family = FAMILIES[name]
    if ways is not None and family.ways is None:
        raise SettingError(f"--ways is {ways}, but {name} is regression; expected no --ways")
    return family.make(ways or family.ways, shots or family.shots, queries or family.queries)


def make_learner(
    name: AlgorithmName, tasks: DataName, *, ways: int | None, inner_lr: float | None, inner_steps: int | None
) -> Any:
    """A learner with a network that fits the tasks, and its own defaults for what is ``None``."""
    ways = ways or FAMILIES[tasks].ways
    # Blobs have as many features as classes.
    network = models.mlp([ways or 1, *HIDDEN, ways or 1])
    make, settings = LEARNERS[name]
    given = {"inner_lr": inner_lr, "inner_steps": inner_steps}
    settings = FAMILIES[tasks].inner | settings
    settings |= {key: value for key, value in given.items() if value is not None}
    return make(network, "mse" if ways is None else "cross_entropy", **settings)


def backend_names() -> list[str]:
    """The installed backends."""
    return sorted(entry_points(group=GROUP).names)
