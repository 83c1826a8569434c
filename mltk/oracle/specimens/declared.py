"""What a specimen is, and the decorator that makes one of a function or of a learner with a mistake."""

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

Declared = TypeVar("Declared", bound=Callable[..., Any])


def specimen(
    *computations: str, mistake: str | None = None, beside: str | None = None, scale: Scale | None = None
) -> Callable[[Declared], Declared]:
    """Declare a function, or a class with the method ``judged``, a specimen of computations.

    Args:
        computations: What it claims to be.
        mistake: See `Specimen`.
        beside: See `Specimen`.
        scale: See `Specimen`.
    """

    def declare(made: Declared) -> Declared:
        candidate: Candidate = getattr(made, "judged", made)
        for computation in computations:
            name = f"{computation}-{_hyphens(made.__name__)}"
            assert name not in DECLARED, name
            DECLARED[name] = Specimen(
                name, computation, candidate, mistake=mistake, beside=beside, scale=scale
            )
        return made

    return declare


def _hyphens(name: str) -> str:
    """``CamelCase`` and ``snake_case`` in lower case with hyphens."""
    spread = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name)
    return spread.replace("_", "-").strip("-")
