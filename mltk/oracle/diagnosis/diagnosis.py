"""The diagnosis of wrong outputs: known mistakes, alone or in pairs, in all or some cases; else the place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mltk.oracle.case import Case, Values
from mltk.oracle.computation import Computation
from mltk.oracle.diagnosis.bases import Base, Results, fitted, paired, plain
from mltk.oracle.diagnosis.explain import Explanations, Finding, is_wrong
from mltk.oracle.diagnosis.locate import locate
from mltk.oracle.diagnosis.single_precision import single_precision
from mltk.oracle.diagnosis.some_cases import common_setting, greedy

Run = Callable[[Case], Values | None]


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong.

    Attributes:
        findings: Known mistakes. Several that explain the same outputs of the same cases are alternatives
            that the cases cannot tell apart.
        unknown: Wrong outputs that no known mistake explains.
        location: Where their error sits.
    """

    findings: tuple[Finding, ...]
    unknown: tuple[str, ...]
    location: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the mistakes and scale errors that were found."""
        return tuple(dict.fromkeys(name for each in self.findings for name in each.names))

    @property
    def text(self) -> str:
        """Several lines for people."""
        lines: list[str] = []
        for finding in self.findings:
            others = [
                other
                for other in self.findings
                if set(other.outputs) & set(finding.outputs) and set(other.on) == set(finding.on)
            ]
            first, *rest = finding.lines()
            lines += [f"{'one of: ' if len(others) > 1 else ''}{first}", *rest]
        if self.unknown:
            lines.append(f"unknown mistake: no entry of the catalogue gives {' or '.join(self.unknown)}")
        return "\n".join([*lines, *(f"  {line}" for line in self.location)])

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "findings": [
                {key: list(value) if isinstance(value, tuple) else value for key, value in vars(each).items()}
                for each in self.findings
            ],
            "unknown": list(self.unknown),
            "location": list(self.location),
        }


def diagnose(
    computation: Computation, results: Results, dtype: np.dtype[Any], run: Run | None = None
) -> Diagnosis:
    """Compare a candidate's outputs with the catalogue.

    Args:
        computation: What was computed.
        results: Every case for which the candidate returned outputs of the right form.
        dtype: The precision of the candidate.
        run: Runs the candidate on another case, to find out which tasks are wrong.

    Returns:
        The mistakes that give the same outputs on all generic cases with wrong ones, or else on some of them;
        empty if nothing is wrong.
    """
    wrong, right, groups = _basis(results, dtype)
    if not groups:
        return Diagnosis((), (), ())
    explanations = Explanations(wrong, right, groups, dtype)
    bases = _explain(computation, explanations, wrong, groups)
    findings = explanations.findings()
    unknown = tuple(group for group in groups if group not in {g for each in findings for g in each.outputs})
    if not unknown:
        return Diagnosis(tuple(_with_setting(each, wrong, right) for each in findings), (), ())
    single = single_precision(computation, wrong, groups, dtype, run)
    if single is not None:
        return Diagnosis((single,), (), ())
    parts, rest = greedy(bases, wrong, right, groups, dtype)
    if parts:
        findings = tuple(_with_setting(each, wrong, right) for each in parts)
        unknown = tuple(group for group in groups if any(is_wrong(*each, dtype)(group) for each in rest))
    basis = [*(rest if parts else wrong), *(right if wrong[0][0].kind == "valid" else ())]
    location = locate(computation, basis, unknown, dtype, run) if unknown else ()
    return Diagnosis(findings, unknown, location)


def _explain(
    computation: Computation, explanations: Explanations, wrong: Results, groups: Sequence[str]
) -> list[Base]:
    """Compare bases, likely ones first, until one explains all; returns those that were compared."""
    bases = list(plain(computation.name))
    for base in bases:
        explanations.add(base)
    if explanations.complete():
        return bases
    for likely in (True, False):
        for base in fitted(computation, wrong, groups[-1], likely=likely):
            explanations.add(base)
            bases.append(base)
            if explanations.complete():
                return bases
        if likely:
            for base in paired(computation, _loops(computation, explanations, wrong, groups)):
                explanations.add(base)
            if explanations.complete():
                return bases
    explanations.add_put_off()
    return bases


def _loops(
    computation: Computation, explanations: Explanations, wrong: Results, groups: Sequence[str]
) -> list[Base]:
    """The inner loops that give the candidate's loss; all that have no number if it returns none."""
    if not any("loss" in outputs for _, outputs in wrong):
        return [base for base in plain(computation.name) if base.loop is not None]
    if "loss" not in groups:
        return []
    found = [base for base in explanations.explaining("loss") if base.loop is not None]
    if not found:
        for base in fitted(computation, wrong, "loss", likely=True):
            explanations.add(base)
        found = [base for base in explanations.explaining("loss") if base.loop is not None]
    return found


def _basis(results: Results, dtype: np.dtype[Any]) -> tuple[Results, Results, tuple[str, ...]]:
    """The cases with wrong outputs, those without, and the names of these outputs.

    These are the generic ones; if all is right there, the edge cases that are wrong.
    """

    def wrong(some: Results) -> tuple[str, ...]:
        return tuple(
            dict.fromkeys(
                group for case, outputs in some for group in outputs if is_wrong(case, outputs, dtype)(group)
            )
        )

    generic = [(case, outputs) for case, outputs in results if case.kind == "valid" and not case.tie]
    basis = generic if wrong(generic) else results
    bad = [each for each in basis if wrong([each])]
    good = [each for each in generic if not wrong([each])]
    return bad, good, wrong(bad)


def _with_setting(finding: Finding, wrong: Results, right: Results) -> Finding:
    """A finding that says what its cases have in common, if the candidate is right in others."""
    if not finding.on:
        return finding
    inside = [case for case, _ in wrong if case.name in finding.on]
    outside = [case for case, _ in [*wrong, *right] if case.name not in finding.on]
    return replace(finding, setting=common_setting(inside, outside))
