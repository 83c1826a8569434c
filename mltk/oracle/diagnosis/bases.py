"""What outputs are compared with: the truth, every known mistake in each of its ways, and pairs of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from mltk.oracle.case import Case, Values
from mltk.oracle.catalogue import CATALOGUE, Family, Mistake, Variant
from mltk.oracle.computation import Computation
from mltk.oracle.definitions.inner_loop_knobs import LoopKnobs
from mltk.oracle.diagnosis.fit import fit
from mltk.oracle.diagnosis.made import Made, computed, numbered, remembered
from mltk.oracle.tolerance import disagreement

Results = Sequence[tuple[Case, Values]]
"""Cases, and what a candidate returned for them."""


@dataclass(frozen=True)
class Base:
    """What a candidate's outputs are compared with, up to a scale: the truth or mistakes.

    Attributes:
        mistakes: None for the truth.
        detail: Which way, or which number.
        outputs: In a case; ``None`` where it cannot be computed.
        fitted: Whether a number was fitted.
        loop: The inner loop that makes the mistake, if that is all.
    """

    mistakes: tuple[Mistake, ...]
    detail: str
    outputs: Made
    fitted: bool = False
    loop: LoopKnobs | None = None


def known(name: str) -> Iterator[tuple[Mistake, Variant | Family]]:
    """The mistakes of a computation, in each of their ways."""
    for mistake in CATALOGUE:
        if name in mistake.computations:
            for way in mistake.variants:
                yield mistake, way


@cache
def plain(name: str) -> tuple[Base, ...]:
    """The truth, and every mistake of a computation that has no number."""
    return (
        Base((), "", lambda case: case.expected),
        *(
            Base((mistake,), way.detail, remembered(way.outputs), loop=way.loop)
            for mistake, way in known(name)
            if isinstance(way, Variant)
        ),
    )


def fitted(computation: Computation, basis: Results, group: str, *, likely: bool) -> Iterator[Base]:
    """The families of mistakes, with the numbers that fit best.

    Args:
        computation: What was computed.
        basis: Cases, and what a candidate returned for them.
        group: Which of the outputs the numbers are fitted to.
        likely: Whether those that change the loss if and only if the candidate's is wrong, or the others.
    """
    for mistake, way in known(computation.name):
        if isinstance(way, Family) and _likely(way, basis) == likely:
            for value in fit(way, basis, group):
                loop = way.loop and way.loop(value)
                detail = f"{way.number} {value:.6g}"
                yield Base((mistake,), detail, numbered(way, value), fitted=True, loop=loop)


def paired(computation: Computation, bases: Sequence[Base]) -> Iterator[Base]:
    """Inner loops that make a mistake, each with every mistake of the meta-gradient."""
    for base in bases:
        for mistake, way in known(computation.name) if base.loop is not None else ():
            if isinstance(way, Variant) and way.gradient is not None and base.loop is not None:
                detail = "; ".join(filter(None, (base.detail, way.detail)))
                outputs = computed(way.gradient(base.loop))
                yield Base((*base.mistakes, mistake), detail, outputs, fitted=base.fitted)


def _likely(family: Family, basis: Results) -> bool:
    """Whether a family changes the loss of a case if and only if a candidate's is wrong."""
    for case, outputs in basis:
        if "loss" in outputs:
            wrong = disagreement({"loss": outputs["loss"]}, case.expected) > NEAR
            return wrong == any(_changes(family, case, start) for start in family.starts)
    return True


def _changes(family: Family, case: Case, number: float) -> bool:
    made = numbered(family, number)(case)
    return made is not None and disagreement({"loss": made["loss"]}, case.expected) > NEAR


NEAR = 1e-11
"""Losses that differ by less may be the same."""
