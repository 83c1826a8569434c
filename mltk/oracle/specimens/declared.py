"""What a specimen is, and the decorator that makes one of a function or of a class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, TypeVar

Scale = Literal[
    "sum-over-tasks",
    "sum-over-examples",
    "sum-over-tasks-and-examples",
    "sum-over-output-features",
    "sum-over-classes",
    "divided-by-tasks",
    "divided-by-examples",
    "gradient-accumulated-twice",
    "sign",
    "step-size",
]

UNKNOWN = "unknown"
"""The mistake of a specimen that no catalogue has."""

Candidate = Callable[[dict[str, Any], Any, Any], Any]
"""From parameters, data and settings to outputs, as `mltk oracle check` calls it."""


@dataclass(frozen=True)
class Specimen:
    """An implementation, and what must be found about it.

    Attributes:
        name: Unique; lower case with hyphens.
        computation: The name of the computation that it claims to be.
        candidate: The function, or the name of a peer.
        mistake: The name of the catalogue's entry; `UNKNOWN` if there is none, ``None`` if it is correct.
        beside: The name of another one on top: a mistake of the meta-gradient, or one in other cases.
        scale: The error of scale on top of the mistake, or its name if that is all.
    """

    name: str
    computation: str
    candidate: Candidate | str
    _: KW_ONLY
    mistake: str | None = None
    beside: str | None = None
    scale: Scale | None = None


DECLARED: dict[str, Specimen] = {}
"""Every specimen under its name, in the order of the files."""


class Implementation:
    """An implementation as a class, whose methods wrong ones override.

    Args:
        params: What is learned.
        data: What it is learned from.
        settings: Of the case.
    """

    only: Callable[[Any], bool] | None = None
    """Which cases it can do, from their settings."""

    def __init__(self, params: dict[str, Any], data: Any, settings: Any) -> None:
        self.params, self.data, self.settings = params, data, settings

    @classmethod
    def judged(cls, params: dict[str, Any], data: Any, settings: Any) -> Any:
        """What is checked."""
        if cls.only is not None and not cls.only(settings):
            raise NotImplementedError(f"only for {cls.only.__name__}")
        return cls(params, data, settings).answer()

    def answer(self) -> Any:
        """Whatever the computation returns."""
        raise NotImplementedError


Declared = TypeVar("Declared", bound=Callable[..., Any])


def specimen(
    *computations: str,
    mistake: str | None = None,
    beside: str | None = None,
    scale: Scale | None = None,
    only: Callable[[Any], bool] | None = None,
) -> Callable[[Declared], Declared]:
    """Declare a function or an `Implementation` a specimen of computations.

    Args:
        computations: What it claims to be.
        mistake: See `Specimen`.
        beside: See `Specimen`.
        scale: See `Specimen`.
        only: Which cases an `Implementation` and those made of it can do; ``None`` for all.
    """

    def declare(made: Declared) -> Declared:
        candidate: Candidate = getattr(made, "judged", made)
        if only is not None:
            made.only = only  # type: ignore[attr-defined]
        for computation in computations:
            name = f"{computation}-{_hyphens(made.__name__)}"
            assert name not in DECLARED, name
            DECLARED[name] = Specimen(
                name, computation, candidate, mistake=mistake, beside=beside, scale=scale
            )
        return made

    return declare


def classes(settings: Any) -> bool:
    """Classification."""
    return settings.ways is not None


def regression(settings: Any) -> bool:
    """Numbers for targets."""
    return settings.ways is None


def squared_distances(settings: Any) -> bool:
    """All but prototypical networks with cosines."""
    return bool(settings.get("distance", "sqeuclidean") == "sqeuclidean")


def cosines(settings: Any) -> bool:
    """All but prototypical networks with distances."""
    return bool(settings.get("distance", "cosine") == "cosine")


def intercepts(settings: Any) -> bool:
    """Ridge regression with an intercept."""
    return bool(settings.get("intercept", settings.get("bias")))


def a_rate_for_all_steps(settings: Any) -> bool:
    """All but learned rates of each step."""
    return not settings.get("lr_per_step")


def _hyphens(name: str) -> str:
    """``CamelCase`` and ``snake_case`` in lower case with hyphens."""
    spread = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)
    return spread.replace("_", "-").strip("-")
