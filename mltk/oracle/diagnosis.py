"""What is wrong with outputs: which known mistake gives the same, or where the error sits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from mltk.errors import MltkError
from mltk.oracle.case import Case, Values
from mltk.oracle.computation import Computation
from mltk.oracle.fit import fit
from mltk.oracle.judgement import disagreement, tolerance
from mltk.oracle.location import locate
from mltk.oracle.mistakes import CATALOGUE, Family, Mistake, Variant
from mltk.oracle.mistakes.scales import SCALES, Scale

Results = Sequence[tuple[Case, Values]]
"""Cases, and what a candidate returned for them."""

LENIENT = 16
"""How many times the tolerance a match may be off: a mistake can be worse conditioned than the truth."""

DISTINCT = 100
"""How many times the tolerance a mistake must be from the truth, to be seen."""


@dataclass(frozen=True)
class Finding:
    """A known mistake that gives the candidate's outputs.

    Attributes:
        name: Of the mistake, or of the scale error if that is all.
        detail: Which way, or which number.
        scale: A scale error on top.
        outputs: The outputs that it explains.
        error_to_truth: Largest relative error of these outputs.
        error_to_match: Largest relative difference to what the mistake gives.
        cases: On how many cases.
        summary: What is computed instead of the truth.
        cause: The usual cause in code.
    """

    name: str
    detail: str
    scale: str | None
    outputs: tuple[str, ...]
    error_to_truth: float
    error_to_match: float
    cases: int
    summary: str
    cause: str

    @property
    def title(self) -> str:
        """Its names in one line."""
        scale = f" and {self.scale}" if self.scale else ""
        return f"{self.name}{scale}{f' ({self.detail})' if self.detail else ''}"

    def lines(self) -> Iterator[str]:
        """What people read."""
        yield f"{self.title}: {self.summary}"
        yield (
            f"  evidence: {' and '.join(self.outputs)} {'are' if len(self.outputs) > 1 else 'is'} "
            f"{self.error_to_truth:.1e} from the truth and {self.error_to_match:.1e} from this mistake, "
            f"on {self.cases} cases"
        )
        yield f"  usual cause: {self.cause}"


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


@dataclass(frozen=True)
class Base:
    """What a candidate's outputs are compared with, up to a scale: the truth or a mistake.

    Attributes:
        mistake: ``None`` for the truth.
        detail: Which way, or which number.
        outputs: On each case; ``None`` where it cannot be computed.
        fitted: Whether a number was fitted.
    """

    mistake: Mistake | None
    detail: str
    outputs: tuple[Values | None, ...]
    fitted: bool = False


@dataclass(frozen=True)
class Match:
    """A base that explains a group of outputs.

    Attributes:
        base: The base.
        scale: On top of it.
        error: Largest relative difference.
    """

    base: Base
    scale: Scale | None
    error: float


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
    explained = _Explained(basis, groups, dtype)
    for base in _bases(computation, basis):
        explained.add(base)
    for base in _fitted(computation, basis, groups[-1]):
        if explained.complete():
            break
        explained.add(base)
    findings = explained.findings()
    known = {group for finding in findings for group in finding.outputs}
    unknown = tuple(group for group in groups if group not in known)
    location = locate(computation, basis, unknown, dtype, run) if unknown else ()
    return Diagnosis(findings, unknown, location)


def _basis(results: Results, dtype: np.dtype[Any]) -> tuple[Results, tuple[str, ...]]:
    """The cases to be explained, and the groups of outputs that are wrong on them.

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


def _bases(computation: Computation, basis: Results) -> Iterator[Base]:
    """The truth, and every mistake in each of its ways."""
    yield Base(None, "", tuple(case.expected for case, _ in basis))
    for mistake in CATALOGUE:
        for way in mistake.variants if computation.name in mistake.computations else ():
            if isinstance(way, Variant):
                yield Base(mistake, way.detail, _computed(way.outputs, basis))


def _fitted(computation: Computation, basis: Results, group: str) -> Iterator[Base]:
    """The families of mistakes, with the numbers that fit best."""
    for mistake in CATALOGUE:
        for way in mistake.variants if computation.name in mistake.computations else ():
            if isinstance(way, Family):
                for value in fit(way, basis, group):
                    outputs = _computed(partial(way.outputs, value=value), basis)
                    yield Base(mistake, f"{way.number} {value:.6g}", outputs, fitted=True)


def _computed(outputs: Callable[..., Values | None], basis: Results) -> tuple[Values | None, ...]:
    """What a mistake gives on each case; ``None`` where it cannot happen."""

    def one(case: Case) -> Values | None:
        try:
            return outputs(case.settings, case.inputs)
        except (MltkError, ArithmeticError, np.linalg.LinAlgError):
            return None

    return tuple(one(case) for case, _ in basis)


class _Explained:
    """Which bases explain which groups of outputs."""

    def __init__(self, basis: Results, groups: Sequence[str], dtype: np.dtype[Any]) -> None:
        self._basis, self._groups, self._dtype = basis, groups, dtype
        self._matches: list[dict[str, Match]] = []

    def add(self, base: Base) -> None:
        """Compare a base with the outputs."""
        matches = {group: match for group in self._groups if (match := self._match(base, group))}
        if matches:
            self._matches.append(matches)

    def complete(self) -> bool:
        """Whether one base explains all groups."""
        return any(len(matches) == len(self._groups) for matches in self._matches)

    def findings(self) -> tuple[Finding, ...]:
        """The simplest explanations: one for all groups if there is one, else one for each."""
        together = [matches for matches in self._matches if len(matches) == len(self._groups)]
        if together:
            return self._best(together, self._groups)
        return tuple(
            finding
            for group in self._groups
            for finding in self._best([m for m in self._matches if group in m], (group,))
        )

    def _best(self, candidates: Sequence[dict[str, Match]], groups: Sequence[str]) -> tuple[Finding, ...]:
        """The candidates with the fewest scale errors and fitted numbers, one for each name."""

        def effort(matches: Mapping[str, Match]) -> tuple[int, int]:
            used = [matches[group] for group in groups]
            parts = {match.scale.name for match in used if match.scale} | (
                {used[0].base.mistake.name} if used[0].base.mistake else set()
            )
            return len(parts), int(used[0].base.fitted)

        best = min(map(effort, candidates), default=(0, 0))
        found: dict[str, Finding] = {}
        for matches in candidates:
            if effort(matches) == best:
                finding = self._finding({group: matches[group] for group in groups})
                found.setdefault(finding.name, finding)
        return tuple(found.values())

    def _finding(self, matches: Mapping[str, Match]) -> Finding:
        base = next(iter(matches.values())).base
        scale = next((match.scale for match in matches.values() if match.scale), None)
        entry = base.mistake or scale
        assert entry is not None
        parts = (entry, scale) if scale and base.mistake else (entry,)
        truth = max(
            disagreement({group: outputs[group]}, case.expected)
            for case, outputs in self._basis
            for group in matches
            if group in outputs
        )
        return Finding(
            entry.name,
            base.detail,
            scale.name if scale and base.mistake else None,
            tuple(matches),
            truth,
            max(match.error for match in matches.values()),
            len(self._basis),
            " ".join(part.summary for part in parts),
            " ".join(part.cause for part in parts),
        )

    def _match(self, base: Base, group: str) -> Match | None:
        """How a base explains a group, with the scale that all cases agree on."""
        triples = []
        for (case, outputs), made in zip(self._basis, base.outputs, strict=True):
            if group not in outputs:
                continue
            if made is not None and group in made:
                triples.append((case, outputs[group], made[group]))
            elif not disagreement({group: outputs[group]}, case.expected) <= tolerance(case, self._dtype):
                return None  # a wrong case that it leaves unexplained
        scales: Iterable[tuple[Scale | None, Callable[..., float]]] = [
            (None, lambda settings, inputs: 1.0),
            *((scale, factor) for scale in SCALES for factor in scale.factors),
        ]
        for scale, factor in scales:
            error = self._error(triples, factor, group)
            if error is not None:
                return Match(base, scale, error)
        return None

    def _error(
        self,
        triples: Sequence[tuple[Case, Any, Any]],
        factor: Callable[..., float],
        group: str,
    ) -> float | None:
        """The largest difference to a base times a factor; ``None`` if it is too large or not seen."""
        worst, seen = 0.0, False
        for case, found, made in triples:
            try:
                times = factor(case.settings, case.inputs)
            except KeyError:  # a computation that has no such thing
                return None
            scaled = {group: _times(times, made)}
            error = disagreement({group: found}, scaled)
            allowed = tolerance(case, self._dtype) * LENIENT
            if not error <= allowed:
                return None
            worst = max(worst, error)
            seen = seen or disagreement(scaled, case.expected) > DISTINCT * allowed / LENIENT
        return worst if seen else None


def _times(factor: float, value: Any) -> Any:
    """A group or an array, multiplied."""
    if isinstance(value, dict):
        return {name: factor * array for name, array in value.items()}
    return factor * np.asarray(value)
