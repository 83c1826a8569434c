"""Which mistakes explain wrong outputs: alone, or with a scale error on top."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mltk.errors import MltkError
from mltk.oracle.case import Case, Values, flat
from mltk.oracle.judgement import disagreement, tolerance
from mltk.oracle.mistakes import Mistake
from mltk.oracle.mistakes.scales import SCALES, Factor, Scale

Results = Sequence[tuple[Case, Values]]
"""Cases, and what a candidate returned for them."""

LENIENT = 16
"""How many times the tolerance a match may be off: a mistake can be worse conditioned than the truth."""

DISTINCT = 100
"""How many times the tolerance a mistake must be from the truth, to be seen."""

FACTORS: tuple[tuple[Scale | None, Factor], ...] = (
    (None, lambda settings, inputs: 1.0),
    *((scale, factor) for scale in SCALES for factor in scale.factors),
)
"""Every factor on top of a mistake, and the scale error that it is."""


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
            f"on {self.cases} {'case' if self.cases == 1 else 'cases'}"
        )
        yield f"  usual cause: {self.cause}"


@dataclass(frozen=True)
class Base:
    """What a candidate's outputs are compared with, up to a scale: the truth or a mistake.

    Attributes:
        mistake: ``None`` for the truth.
        detail: Which way, or which number.
        outputs: In a case; ``None`` where it cannot be computed.
        fitted: Whether a number was fitted.
    """

    mistake: Mistake | None
    detail: str
    outputs: Callable[[Case], Values | None]
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


def computed(outputs: Callable[..., Values | None]) -> Callable[[Case], Values | None]:
    """What a mistake gives in a case; ``None`` where it cannot happen."""

    def of(case: Case) -> Values | None:
        try:
            return outputs(case.settings, case.inputs)
        except (MltkError, ArithmeticError, np.linalg.LinAlgError):
            return None

    return of


class Explanations:
    """The bases that explain groups of outputs.

    Args:
        basis: Cases and a candidate's outputs.
        groups: The outputs that are wrong.
        dtype: The precision of the candidate.
    """

    def __init__(self, basis: Results, groups: Sequence[str], dtype: np.dtype[Any]) -> None:
        self._groups, self._dtype = groups, dtype
        # The first case refutes nearly every base, so it should be a wrong and a small one.
        self._basis = sorted(
            basis, key=lambda each: (not any(map(self._wrong(*each), groups)), _size(each[0]))
        )
        self._matches: list[dict[str, Match]] = []

    def add(self, base: Base) -> None:
        """Compare a base with the outputs, case by case, until it is refuted."""
        alive = {group: {k: _Comparison() for k in range(len(FACTORS))} for group in self._groups}
        for case, outputs in self._basis:
            made = base.outputs(case)
            for group in [group for group in alive if group in outputs]:
                if made is None or group not in made:
                    kept = {} if self._wrong(case, outputs)(group) else alive[group]
                elif not _finite(made[group]):  # as the slope of a length at zero, which libraries choose
                    kept = alive[group]
                else:
                    kept = self._compare(case, group, outputs[group], made[group], alive[group])
                alive[group] = kept
                if not kept:
                    del alive[group]
            if not alive:
                return
        matches = {
            group: Match(base, FACTORS[k][0], comparison.error)
            for group, comparisons in alive.items()
            for k, comparison in list(comparisons.items())[::-1]
            if comparison.seen
        }
        if matches:
            self._matches.append(matches)

    def complete(self) -> bool:
        """Whether one base explains all groups."""
        return any(map(self._explains_all, self._matches))

    def _explains_all(self, matches: Mapping[str, Match]) -> bool:
        """Whether a base explains all groups, with one scale error at most."""
        scales = {match.scale.name for match in matches.values() if match.scale}
        return len(matches) == len(self._groups) and len(scales) < 2

    def findings(self) -> tuple[Finding, ...]:
        """The simplest explanations: one for all groups if there is one, else one for each."""
        together = list(filter(self._explains_all, self._matches))
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

    def _wrong(self, case: Case, outputs: Values) -> Callable[[str], bool]:
        """Whether a group of outputs is wrong in a case."""
        return lambda group: (
            group in outputs
            and not disagreement({group: outputs[group]}, case.expected) <= tolerance(case, self._dtype)
        )

    def _compare(
        self, case: Case, group: str, found: Any, made: Any, before: Mapping[int, _Comparison]
    ) -> dict[int, _Comparison]:
        """The factors with which a base gives a group of a case."""
        allowed = tolerance(case, self._dtype) * LENIENT
        truth = {group: case.expected[group]}
        zero = not any(array.any() for array in flat(truth).values())
        if zero and max(disagreement({group: each}, truth) for each in (found, made)) <= allowed:
            return dict(before)  # no factor changes it
        kept = {}
        near = dict(_near(case, found, made, allowed))
        for k in before.keys() & near.keys():
            scaled = {group: _times(near[k], made)}
            error = disagreement({group: found}, scaled)
            if error <= allowed:
                far = disagreement(scaled, truth) > tolerance(case, self._dtype) * DISTINCT
                kept[k] = _Comparison(max(before[k].error, error), before[k].seen or far)
        return dict(sorted(kept.items()))


@dataclass(frozen=True)
class _Comparison:
    """How close a base is so far, and whether it has been seen to differ from the truth."""

    error: float = 0.0
    seen: bool = False


def _near(case: Case, found: Any, made: Any, allowed: float) -> Iterator[tuple[int, float]]:
    """The factors that fit the largest number of a group: all others are refuted by it."""
    names, numbers = zip(*flat({"": made}).items(), strict=True)
    largest = max(range(len(names)), key=lambda k: np.abs(numbers[k]).max(initial=0.0))
    place = int(np.abs(numbers[largest]).argmax()) if numbers[largest].size else None
    if place is None:
        return
    one = float(np.ravel(numbers[largest])[place])
    other = float(np.ravel(flat({"": found})[names[largest]])[place])
    for k, (_, factor) in enumerate(FACTORS):
        try:
            times = factor(case.settings, case.inputs)
        except KeyError:  # a computation that has no such thing
            continue
        if abs(other - times * one) <= allowed * abs(times * one):
            yield k, times


def _finite(value: Any) -> bool:
    return all(np.isfinite(array).all() for array in flat({"": value}).values())


def _size(case: Case) -> int:
    return sum(array.size for array in flat(case.inputs).values())


def _times(factor: float, value: Any) -> Any:
    """A group or an array, multiplied."""
    if isinstance(value, dict):
        return {name: factor * array for name, array in value.items()}
    return factor * np.asarray(value)
