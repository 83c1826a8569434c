"""What a verdict rests on: which kinds of cases were never run, and which settings never read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from mltk.oracle.case import Case
from mltk.oracle.selection import is_balanced, is_number, varying

HINTS = ("ways", "use_woodbury", "params_per_task")
"""Settings that follow from the data, or change no number."""

SEVERAL = "several classes with several shots"


def never_run(every: Sequence[Case], run: Sequence[Case]) -> tuple[str, ...]:
    """The kinds of cases among all that are not among those that were run, in words."""
    seen = set(_kinds(run))
    missing = dict.fromkeys(kind for kind in _kinds(every) if kind not in seen)
    numbers = []
    for name, values in varying(every).items():
        counted = [value for value in values if is_number(value)]
        met = {case.settings.get(name) for case in run} & set(counted)
        if len(met) == 1 and len(counted) > 1 and name not in HINTS:
            numbers.append(f"{name} other than {met.pop():g}")
    return (*missing, *numbers)


def never_read(run: Sequence[Case], read: Iterable[str]) -> tuple[str, ...]:
    """The settings that are not the same in all cases that were run, and that the candidate never read."""
    known = {*read, *HINTS}
    return tuple(name for name in varying(run) if name not in known)


def _kinds(cases: Iterable[Case]) -> Iterator[str]:
    for case in cases:
        labels, ways = case.inputs.get("support_y"), case.settings.get("ways")
        if labels is not None and ways:
            counts = (labels[..., None] == np.arange(ways)).sum(-2)
            if ways > 1 and counts.min() > 1:
                yield SEVERAL
            if (counts != counts[:, :1]).any():
                yield "classes of unequal size"
            elif not is_balanced(case) and ways > 1:
                yield "classes in any order"
        if labels is not None and len(labels) > 1:
            yield "several tasks"
        for layer in case.settings.get("layers", ()):
            yield f"{layer['layer']} layers"
        for name, value in case.settings.items():
            if name not in HINTS and (isinstance(value, str | bool) or value is None):
                yield f"{name}={value if isinstance(value, str) else str(value).lower()}"
