"""Which mistakes explain wrong outputs: alone, or with a scale error on top."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mltk.oracle.case import Case, Values, flat
from mltk.oracle.catalogue.mistake import Mistake
from mltk.oracle.catalogue.scale_errors import SCALES, Factor, Scale
from mltk.oracle.diagnosis.bases import Base, Results
from mltk.oracle.tolerance import disagreement, tolerance

LENIENT = 16
"""How many times the tolerance a match may be off: a mistake can be worse conditioned than the truth."""

DISTINCT = 100
"""How many times the tolerance a mistake must be from the truth, to be seen."""

ENOUGH = 3
"""How many numbers there must be for one that is fitted to say anything."""

CHEAP = ("logits", "loss")
"""Outputs that refute most bases, and are computed without a gradient."""

SHOWN = 6
"""How many cases a line lists."""

FACTORS: tuple[tuple[Scale | None, Factor], ...] = (
    (None, lambda settings, inputs: 1.0),
    *((scale, factor) for scale in SCALES for factor in scale.factors),
)
"""Every factor on top of a mistake, and the scale error that it is."""


@dataclass(frozen=True)
class Finding:
    """A known mistake that gives the candidate's outputs, or a pair of them.

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
        beside: Of the second mistake of a pair.
        on: The names of the cases with wrong outputs that it explains, if it does not explain all.
        right: The names of the cases in which this mistake would show, and the candidate is right.
        setting: What is common to the wrong cases, and to no other.
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
    beside: str | None = None
    on: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    setting: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the mistakes and the scale error."""
        return tuple(name for name in (self.name, self.beside, self.scale) if name)

    @property
    def title(self) -> str:
        """Its names in one line."""
        return f"{' and '.join(self.names)}{f' ({self.detail})' if self.detail else ''}"

    def lines(self) -> Iterator[str]:
        """What people read."""
        where = f" on: {listed(self.on)}" if self.on else ""
        where += f", {self.setting}" if self.setting else ""
        where += f"; right on: {listed(self.right)}" if self.right else ""
        yield f"{self.title}{where}: {self.summary}"
        yield (
            f"  evidence: {' and '.join(self.outputs)} {'are' if len(self.outputs) > 1 else 'is'} "
            f"{self.error_to_truth:.1e} from the truth and {self.error_to_match:.1e} from this mistake, "
            f"on {self.cases} {'case' if self.cases == 1 else 'cases'}"
        )
        yield f"  usual cause: {self.cause}"


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


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


Matches = dict[str, Match]
"""Under the names of the groups of outputs."""


class Explanations:
    """The bases that explain groups of outputs.

    Args:
        wrong: Cases with wrong outputs of a candidate: those are explained.
        right: Cases in which all its outputs are right: a mistake that would show there comes last.
        groups: The outputs that are wrong.
        dtype: The precision of the candidate.
    """

    def __init__(self, wrong: Results, right: Results, groups: Sequence[str], dtype: np.dtype[Any]) -> None:
        self._groups, self._dtype, self._right = groups, dtype, right
        self._cheap_first = sorted(groups, key=lambda group: group not in CHEAP)
        # The first case refutes nearly every base, so it should be a small one with all that is wrong.
        self._basis = sorted(
            wrong,
            key=lambda each: (-sum(map(is_wrong(each[0], each[1], dtype), groups)), _size(each[0])),
        )
        self._matches: list[Matches] = []
        self._put_off: list[Base] = []

    def add(self, base: Base, *, thorough: bool = False) -> None:
        """Compare a base with the outputs, case by case, until it is refuted.

        Args:
            base: The base.
            thorough: Whether to go on with the other outputs when logits and loss are refuted, which costs a
                gradient. Such bases are put off.
        """
        matches = self._compared(base, self._basis, thorough=thorough)
        if matches is None:
            self._put_off.append(base)
        elif matches:
            self._matches.append(matches)

    def add_put_off(self) -> None:
        """Compare the outputs that were left out of those bases that were put off."""
        put_off, self._put_off = self._put_off, []
        for base in put_off:
            self.add(base, thorough=True)

    def _compared(self, base: Base, basis: Results, *, thorough: bool) -> Matches | None:
        """The groups that a base explains; ``None`` if it was refuted by cheap ones alone."""
        alive = {group: {k: _Comparison() for k in range(len(FACTORS))} for group in self._groups}
        cheap = [group for group in self._groups if group in CHEAP]
        for case, outputs in basis:
            made = base.outputs(case)
            for group in [group for group in self._cheap_first if group in alive and group in outputs]:
                if not thorough and group not in CHEAP and cheap and not alive.keys() & set(cheap):
                    return None
                if made is None or group not in made:
                    kept = {} if is_wrong(case, outputs, self._dtype)(group) else alive[group]
                elif not _finite(made[group]):  # as the slope of a length at zero, which libraries choose
                    kept = alive[group]
                else:
                    kept = self._compare(case, group, outputs[group], made[group], alive[group])
                alive[group] = kept
                if not kept:
                    del alive[group]
            if not alive:
                return {}
        return {
            group: Match(base, FACTORS[k][0], comparison.error)
            for group, comparisons in alive.items()
            for k, comparison in list(comparisons.items())[::-1]
            if comparison.seen and not (base.fitted and self._numbers(group) < ENOUGH)
        }

    def _numbers(self, group: str) -> int:
        """How many numbers of a group there are to explain."""
        return sum(
            array.size
            for _, outputs in self._basis
            if group in outputs
            for array in flat({group: outputs[group]}).values()
        )

    def complete(self) -> bool:
        """Whether one base explains all groups."""
        return any(map(self._explains_all, self._matches))

    def explaining(self, group: str) -> list[Base]:
        """The bases that explain a group."""
        return [matches[group].base for matches in self._matches if group in matches]

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

    def _best(self, candidates: Sequence[Matches], groups: Sequence[str]) -> tuple[Finding, ...]:
        """Those that would show nowhere else, with the fewest mistakes and fitted numbers; one of a name."""
        shown = {id(matches): self.shows(matches[groups[0]].base) for matches in candidates}

        def effort(matches: Matches) -> tuple[int, int, int, int]:
            used = [matches[group] for group in groups]
            mistakes = used[0].base.mistakes
            scales = {match.scale.name for match in used if match.scale}
            bare = int(not mistakes)  # a scale error alone may be what an entry of the catalogue is about
            return len(shown[id(matches)]), len(scales) + len(mistakes), int(used[0].base.fitted), bare

        best = min(map(effort, candidates), default=None)
        found: dict[str, Finding] = {}
        for matches in candidates:
            if effort(matches) == best:
                finding = self._finding({group: matches[group] for group in groups}, shown[id(matches)])
                found.setdefault(finding.name, finding)
        return tuple(found.values())

    def shows(self, base: Base) -> tuple[str, ...]:
        """The cases in which the candidate is right, and this mistake would not be."""
        names = []
        for case, _ in self._right if base.mistakes else ():
            made = base.outputs(case)
            if made is not None and any(
                group in made
                and disagreement({group: made[group]}, case.expected)
                > DISTINCT * tolerance(case, self._dtype)
                for group in self._groups
            ):
                names.append(case.name)
        return tuple(names)

    def _finding(self, matches: Matches, right: tuple[str, ...]) -> Finding:
        base = next(iter(matches.values())).base
        scale = next((match.scale for match in matches.values() if match.scale), None)
        parts: list[Mistake | Scale] = [*base.mistakes, *([scale] if scale else [])]
        names = [each.name for each in base.mistakes]
        truth = max(
            disagreement({group: outputs[group]}, case.expected)
            for case, outputs in self._basis
            for group in matches
            if group in outputs
        )
        return Finding(
            parts[0].name,
            base.detail,
            scale.name if scale and base.mistakes else None,
            tuple(matches),
            truth,
            max(match.error for match in matches.values()),
            len(self._basis),
            " ".join(part.summary for part in parts),
            " ".join(part.cause for part in parts),
            beside=names[1] if len(names) > 1 else None,
            on=tuple(case.name for case, _ in self._basis) if right else (),
            right=right,
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


def is_wrong(case: Case, outputs: Values, dtype: np.dtype[Any]) -> Callable[[str], bool]:
    """Whether a group of outputs is wrong in a case."""
    return lambda group: (
        group in outputs
        and not disagreement({group: outputs[group]}, case.expected) <= tolerance(case, dtype)
    )


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
