"""Which cases a check is restricted to, and the settings in which the cases of a computation differ."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeGuard

import numpy as np

from mltk.checks import did_you_mean
from mltk.errors import SettingError
from mltk.oracle import vectors
from mltk.oracle.case import Case
from mltk.oracle.computation import Computation

Condition = Callable[[Case], bool]

BALANCED = "balanced"
"""The condition that needs no value."""

LEAST, MOST = "min_", "max_"

INNER = "inner_"
"""May be left out of a setting's name."""

SHOWN = 12
"""How many values of a setting are listed."""


def varying(cases: Iterable[Case]) -> dict[str, list[Any]]:
    """The settings that are not the same in all cases that have outputs, with their values in order.

    Lists and dicts, such as the layers of a network, are left out.
    """
    found: dict[str, dict[str, Any]] = {}
    for case in cases:
        for name, value in case.settings.items():
            if case.kind != "must-raise":
                found.setdefault(name, {}).setdefault(json.dumps(value), value)
    return {
        name: sorted(values.values(), key=lambda value: (not is_number(value), is_number(value) and value))
        for name, values in found.items()
        if len(values) > 1 and not any(isinstance(value, list | dict) for value in values.values())
    }


def described(name: str, values: Sequence[Any]) -> str:
    """``"distance: cosine or sqeuclidean"``; of many numbers the range."""
    numbers = [value for value in values if is_number(value)]
    texts = [_text(value) for value in values]
    if len(numbers) > SHOWN // 2:
        others = [_text(value) for value in values if not is_number(value)]
        texts = [f"{_text(numbers[0])} to {_text(numbers[-1])}", *others]
    return f"{name}: {', '.join(texts[:-1])}{' or ' if len(texts) > 1 else ''}{texts[-1]}"


def is_balanced(case: Case) -> bool:
    """Whether both sets hold the same number of examples of each class, and class after class."""
    ways = case.settings.get("ways")
    sets = [case.inputs[key] for key in ("support_y", "query_y", "targets") if key in case.inputs]
    if not ways or not sets:
        return False
    return all(
        labels.ndim == 2
        and labels.shape[1] % ways == 0
        and bool((labels == np.repeat(np.arange(ways), labels.shape[1] // ways)).all())
        for labels in sets
    )


def condition(computation: Computation, wanted: Iterable[str]) -> Condition:
    """The cases that fulfil everything wanted.

    Args:
        computation: Whose cases.
        wanted: Texts such as ``"loss=cross_entropy"``, ``"min_steps=2"``, ``"max_lr=0.3"``, ``"balanced"``.

    Raises:
        SettingError: If a name or value is none of the cases', or no case is left.
    """
    cases = [case for case in vectors.stored(computation.name) if case.kind != "must-raise"]
    conditions = [_one(computation, cases, text) for text in wanted]
    if conditions and not any(all(each(case) for each in conditions) for case in cases):
        raise SettingError(f"no case of {computation.name} fulfils all of {', '.join(wanted)}")
    return lambda case: all(each(case) for each in conditions)


def _one(computation: Computation, cases: Sequence[Case], text: str) -> Condition:
    choices = varying(cases)
    if text == BALANCED:
        if not any(map(is_balanced, cases)):
            raise SettingError(f"where is {text!r}; the cases of {computation.name} have no classes")
        return is_balanced
    key, equals, value = text.partition("=")
    bound = next((start for start in (LEAST, MOST) if key.startswith(start)), "")
    name = key.removeprefix(bound)
    name = name if name in choices else f"{INNER}{name}"
    numbers = {each: [n for n in values if is_number(n)] for each, values in choices.items()}
    possible = [each for each in choices if not bound or numbers[each]]
    if not equals or name not in possible:
        short = [each.removeprefix(INNER) for each in possible]
        raise SettingError(
            f"where is {text!r}; expected {BALANCED}, or NAME=VALUE, {LEAST}NAME=NUMBER or {MOST}NAME=NUMBER "
            f"with one of the settings that vary in {computation.name}: {', '.join(possible) or 'none'}"
            + did_you_mean(name.removeprefix(INNER), [*short, *possible, BALANCED])
        )
    if bound:
        return _bounded(text, name, value, least=bound == LEAST)
    known = {_text(each): each for each in choices[name]}
    for each in numbers[name]:
        known |= {value: each} if _number(value) == each else {}
    if value not in known:
        raise SettingError(
            f"where is {text!r}; expected for {name} one of {', '.join(map(_text, choices[name]))}"
        )
    right = known[value]
    return lambda case: _text(case.settings.get(name)) == _text(right)


def _bounded(text: str, name: str, value: str, *, least: bool) -> Condition:
    limit = _number(value)
    if limit is None:
        raise SettingError(f"where is {text!r}; expected a number after the equals sign")

    def fulfilled(case: Case) -> bool:
        found = case.settings.get(name)
        return is_number(found) and (found >= limit if least else found <= limit)

    return fulfilled


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a setting is a number, and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    """As it is written after an equals sign: text bare, everything else as in JSON, numbers short."""
    if isinstance(value, str):
        return value
    return f"{value:g}" if is_number(value) else json.dumps(value)
