"""Checks of settings: the numbers that describe tasks and learners."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from mltk.errors import SettingError


def check_count(name: str, value: Any, *, at_least: int = 1) -> None:
    """Raise `SettingError` unless the setting is an integer of at least ``at_least``."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < at_least:
        raise SettingError(f"{name} is {value!r}; expected an integer of at least {at_least}")


def check_choice(name: str, value: Any, known: Iterable[str]) -> None:
    """Raise `SettingError` unless the setting is one of the known names, or say which it is near."""
    known = list(known)
    if not isinstance(value, str) or value not in known:
        raise SettingError(
            f"{name} is {value!r}; expected one of {', '.join(known)}{did_you_mean(value, known)}"
        )


def did_you_mean(value: Any, known: Iterable[str]) -> str:
    """`` (did you mean 'sinusoid'?)``, for the end of an error; empty if the value is near no known name."""
    import difflib  # for errors alone

    if not isinstance(value, str):
        return ""

    def plain(name: str) -> str:
        return name.casefold().replace("_", "").replace("-", "")

    names = {plain(name): name for name in known}
    close = difflib.get_close_matches(plain(value), names, n=1)
    return f" (did you mean {names[close[0]]!r}?)" if close else ""


def check_range(name: str, value: Any) -> None:
    """Raise `SettingError` unless the setting is a pair of finite numbers ``(low, high)``, in order."""
    if (
        not isinstance(value, tuple | list)
        or len(value) != 2
        or not all(is_number(bound) for bound in value)
        or value[0] > value[1]
    ):
        raise SettingError(f"{name} is {value!r}; expected a pair of numbers (low, high) with low <= high")


def check_scale(name: str, value: Any, *, positive: bool = False) -> None:
    """Raise `SettingError` unless the setting is a finite number that is not negative (or is positive)."""
    if not is_number(value) or value < 0 or (positive and value == 0):
        expected = "positive" if positive else "of at least 0"
        raise SettingError(f"{name} is {value!r}; expected a finite number {expected}")


def check_has(name: str, value: Any, method: str, example: str) -> None:
    """Raise `SettingError` unless the setting is an object with a method, not its name or its class."""
    if isinstance(value, type) or not callable(getattr(value, method, None)):
        raise SettingError(f"{name} is {value!r}; expected an object with {method}(...), such as {example}")


def is_number(value: Any) -> bool:
    """Whether this is a finite real number."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
