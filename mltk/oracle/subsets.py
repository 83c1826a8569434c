"""Mistakes that are made in some cases alone: which cases, and what these have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mltk.oracle.bases import Base, Results
from mltk.oracle.case import Case
from mltk.oracle.explanation import Explanations, Finding, is_wrong

FEW = 2
"""On how many cases a fitted number must agree."""


def greedy(
    bases: Sequence[Base], wrong: Results, right: Results, groups: Sequence[str], dtype: np.dtype[Any]
) -> tuple[list[Finding], Results]:
    """Mistakes that explain some wrong cases each, those that explain most first.

    Args:
        bases: What the cases are compared with.
        wrong: Cases with wrong outputs of a candidate.
        right: Cases in which all its outputs are right.
        groups: The outputs that are wrong.
        dtype: The precision of the candidate.

    Returns:
        The mistakes, and the cases that none explains.
    """
    found: list[Finding] = []
    rest = list(wrong)
    covered = {id(base): _covered(base, rest, groups, dtype) for base in bases}
    while rest:
        left = {case.name for case, _ in rest}
        counted = [(len(covered[id(base)] & left), -k) for k, base in enumerate(bases)]
        most, place = max(counted, default=(0, 0))
        base = bases[-place]
        if not most or (base.fitted and most < FEW):
            if most and base.fitted:
                covered[id(base)] = set()
                continue
            break
        names = covered[id(base)] & left
        inside = [each for each in rest if each[0].name in names]
        outside = [each for each in [*wrong, *right] if each[0].name not in names]
        explained = Explanations(inside, [], _wrong_groups(inside, groups, dtype), dtype)
        explained.add(base, thorough=True)
        for finding in explained.findings()[:1]:
            shows = Explanations(inside, outside, groups, dtype).shows(base)
            found.append(replace(finding, on=tuple(case.name for case, _ in inside), right=shows))
        rest = [each for each in rest if each[0].name not in names]
    return found, rest


def _covered(base: Base, wrong: Results, groups: Sequence[str], dtype: np.dtype[Any]) -> set[str]:
    """The names of the cases that a base explains, each with all that is wrong in it."""
    names = set()
    for each in wrong:
        own = Explanations([each], [], _wrong_groups([each], groups, dtype), dtype)
        own.add(base)
        if own.complete():
            names.add(each[0].name)
    return names


def _wrong_groups(some: Results, groups: Sequence[str], dtype: np.dtype[Any]) -> tuple[str, ...]:
    return tuple(group for group in groups if any(is_wrong(*each, dtype)(group) for each in some))


def common_setting(inside: Sequence[Case], outside: Sequence[Case]) -> str:
    """What is common to some cases and to no other, in words; empty if nothing is."""
    for name, values in _features(inside):
        if len(values) == 1 and not values & dict(_features(outside)).get(name, set()):
            return f"where {name} is {next(iter(values))}"
    return ""


def _features(cases: Sequence[Case]) -> Iterator[tuple[str, set[str]]]:
    """Settings, and what layers there are, with the values that cases have."""
    names = dict.fromkeys(name for case in cases for name in case.settings if name != "layers")
    for name in names:
        yield name, {str(case.settings.get(name)) for case in cases}
    kinds = dict.fromkeys(layer["layer"] for case in cases for layer in case.settings.get("layers", ()))
    for kind in kinds:
        yield (
            f"a layer {kind}",
            {
                "there" if any(layer["layer"] == kind for layer in case.settings["layers"]) else "missing"
                for case in cases
            },
        )
    yield "the number of tasks", {str(len(case.inputs.get("support_x", ()))) for case in cases}
    yield "learned parameters", {", ".join(case.inputs.get("params", {})) for case in cases}
