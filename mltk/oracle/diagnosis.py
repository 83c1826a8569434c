"""What is wrong with outputs: which known mistake gives the same, or where the error sits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mltk.oracle.case import Case, Values
from mltk.oracle.computation import Computation
from mltk.oracle.explanation import Base, Explanations, Finding, Results, computed
from mltk.oracle.fit import fit
from mltk.oracle.judgement import disagreement, tolerance
from mltk.oracle.location import locate
from mltk.oracle.mistakes import CATALOGUE, Family, Variant


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong.

    Attributes:
        findings: Known mistakes. Several that explain the same outputs are alternatives that the cases cannot
            tell apart.
        unknown: Wrong outputs that no known mistake explains.
        location: Where their error sits.
    """

    findings: tuple[Finding, ...]
    unknown: tuple[str, ...]
    location: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the mistakes and scale errors that were found."""
        return tuple(
            dict.fromkeys(name for each in self.findings for name in (each.name, each.scale) if name)
        )

    @property
    def text(self) -> str:
        """Several lines for people."""
        lines: list[str] = []
        for finding in self.findings:
            others = [other for other in self.findings if set(other.outputs) & set(finding.outputs)]
            first, *rest = finding.lines()
            lines += [f"{'one of: ' if len(others) > 1 else ''}{first}", *rest]
        if self.unknown:
            lines.append(f"unknown mistake: no entry of the catalogue gives {' or '.join(self.unknown)}")
        return "\n".join([*lines, *(f"  {line}" for line in self.location)])

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "findings": [{**vars(finding), "outputs": list(finding.outputs)} for finding in self.findings],
            "unknown": list(self.unknown),
            "location": list(self.location),
        }


def diagnose(
    computation: Computation,
    results: Results,
    dtype: np.dtype[Any],
    run: Callable[[Case], Values | None] | None = None,
) -> Diagnosis:
    """Compare a candidate's outputs with the catalogue.

    Args:
        computation: What was computed.
        results: Every case for which the candidate returned outputs of the right form.
        dtype: The precision of the candidate.
        run: Runs the candidate on another case, to find out which tasks are wrong.

    Returns:
        The mistakes that give the same outputs on all generic cases; empty if nothing is wrong.
    """
    basis, groups = _basis(results, dtype)
    if not groups:
        return Diagnosis((), (), ())
    explanations = Explanations(basis, groups, dtype)
    for base in _bases(computation):
        explanations.add(base)
    for base in _fitted(computation, basis, groups[-1]):
        if explanations.complete():
            break
        explanations.add(base)
    findings = explanations.findings()
    known = {group for finding in findings for group in finding.outputs}
    unknown = tuple(group for group in groups if group not in known)
    location = locate(computation, basis, unknown, dtype, run) if unknown else ()
    return Diagnosis(findings, unknown, location)


def _basis(results: Results, dtype: np.dtype[Any]) -> tuple[Results, tuple[str, ...]]:
    """The cases to be explanations, and the groups of outputs that are wrong on them.

    These are the generic ones; if all is right there, the edge cases that are wrong.
    """

    def wrong(some: Results) -> tuple[str, ...]:
        return tuple(
            dict.fromkeys(
                group
                for case, outputs in some
                for group in outputs
                if not disagreement({group: outputs[group]}, case.expected) <= tolerance(case, dtype)
            )
        )

    generic = [(case, outputs) for case, outputs in results if case.kind == "valid" and not case.tie]
    groups = wrong(generic)
    if groups:
        return generic, groups
    edges = [(case, outputs) for case, outputs in results if wrong([(case, outputs)])]
    return edges, wrong(edges)


def _bases(computation: Computation) -> Iterator[Base]:
    """The truth, and every mistake in each of its ways."""
    yield Base(None, "", lambda case: case.expected)
    for mistake in CATALOGUE:
        for way in mistake.variants if computation.name in mistake.computations else ():
            if isinstance(way, Variant):
                yield Base(mistake, way.detail, computed(way.outputs))


def _fitted(computation: Computation, basis: Results, group: str) -> Iterator[Base]:
    """The families of mistakes, with the numbers that fit best."""
    for mistake in CATALOGUE:
        for way in mistake.variants if computation.name in mistake.computations else ():
            if isinstance(way, Family):
                for value in fit(way, basis, group):
                    outputs = computed(partial(way.outputs, value=value))
                    yield Base(mistake, f"{way.number} {value:.6g}", outputs, fitted=True)
