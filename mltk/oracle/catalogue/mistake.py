"""A known mistake: what it computes instead of the truth, and what usually causes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mltk.oracle.case import Values
from mltk.oracle.definitions.inner_loop_knobs import LoopKnobs

Outputs = Callable[[Mapping[str, Any], Values], Values | None]
"""From the settings and inputs of a case to the outputs of a mistake; ``None`` where it cannot happen."""


Gradient = Callable[[LoopKnobs], Outputs]
"""From an inner loop, wrong or not, to its outputs with a wrong meta-gradient."""


@dataclass(frozen=True)
class Variant:
    """One way in which a mistake happens.

    Attributes:
        outputs: What it computes, in float64.
        detail: What distinguishes it from the other ways: ``"the last 2 steps"``; empty if there is only one.
        loop: The inner loop that makes the mistake, if that is all: the meta-gradient is that of its loss.
        gradient: The mistake in the meta-gradient of any inner loop, if that is all.
    """

    outputs: Outputs
    detail: str = ""
    loop: LoopKnobs | None = None
    gradient: Gradient | None = None


@dataclass(frozen=True)
class Family:
    """Ways that differ by a number, which is found by fitting: a weight decay, a norm, a factor.

    Attributes:
        outputs: From settings, inputs and the number, called ``value``, to what is computed, in float64.
        number: What the number is: ``"weight decay"``.
        starts: Customary values; each is tried, and the best is refined.
        loop: From the number to the inner loop that makes the mistake, if that is all.
    """

    outputs: Callable[..., Values | None]
    number: str
    starts: tuple[float, ...]
    loop: Callable[[float], LoopKnobs] | None = None


@dataclass(frozen=True)
class Mistake:
    """An entry of the catalogue.

    Attributes:
        name: Lower case with hyphens.
        summary: One sentence: what is computed instead.
        formula: The same in LaTeX, with the symbols of the documentation page.
        cause: The usual cause in code.
        computations: The computations in which it happens.
        variants: The ways in which it happens.
    """

    name: str
    summary: str
    formula: str
    cause: str
    computations: tuple[str, ...]
    variants: Iterable[Variant | Family]
