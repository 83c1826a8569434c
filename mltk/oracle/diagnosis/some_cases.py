"""Mistakes that are made in some cases alone: which cases, and what these have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mltk.oracle.case import Case
from mltk.oracle.diagnosis.bases import Base, Results
from mltk.oracle.diagnosis.explain import Explanations, Finding, is_wrong

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
        explained = Explanations(inside, [], _wrong_groups(inside, groups, dtype), dtype)
        explained.add(base, thorough=True)
        for finding in explained.findings()[:1]:
            shows = Explanations(inside, right, groups, dtype).shows(base)
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
    names = dict.fromkeys(name for case in inside for name in case.settings if name != "layers")
    for name in names:
        own, other = ([case.settings.get(name) for case in cases] for cases in (inside, outside))
        if len(set(map(str, own))) == 1 and str(own[0]) not in map(str, other):
            return f"where {name} is {own[0]}"
        if bound := _bound(own, other):
            return f"where {name} is {bound}"
    kinds = dict.fromkeys(layer["layer"] for case in inside for layer in case.settings.get("layers", ()))
    for kind in kinds:
        if all(_has(case, kind) for case in inside) and not any(_has(case, kind) for case in outside):
            return f"where there is a layer {kind}"
    tasks = [[len(case.inputs.get("support_x", ())) for case in cases] for cases in (inside, outside)]
    bound = _bound(*tasks)
    return f"where the number of tasks is {bound}" if bound else ""


def _bound(inside: Sequence[Any], outside: Sequence[Any]) -> str:
    """What all of some numbers keep to, and none of the others does."""
    if not outside or not all(isinstance(value, int | float) for value in (*inside, *outside)):
        return ""
    if min(inside) > max(outside):
        return f"at least {min(inside)}"
    return f"at most {max(inside)}" if max(inside) < min(outside) else ""


def _has(case: Case, kind: str) -> bool:
    return any(layer["layer"] == kind for layer in case.settings.get("layers", ()))
