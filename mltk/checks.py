"""Checks of settings: the numbers that describe tasks and learners.

A dataclass declares what it expects where it declares the field, and inherits from `Checked`:

    @dataclass(frozen=True)
    class Waves(Checked):
        shots: Count
        noise: NonNegative = 0.0
        features: Count | None = None
        kind: Literal["sine", "square"] = "sine"

A function declares likewise what it expects of its arguments, behind `checked`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial, wraps
from inspect import signature
from numbers import Integral, Real
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from mltk.errors import SettingError

F = TypeVar("F", bound=Callable[..., Any])

Check = Callable[[str, Any], None]
"""Called with the name and the value of a setting; raises `SettingError` unless it is as expected."""


class Checked:
    """A dataclass whose settings are checked when one is made, each as the type of its field says.

    A check is what stands beside the type: ``Annotated[int, check]``, as in the types below. One of several
    texts is a ``Literal``. Where ``None`` is allowed as well, that is not checked.
    """

    def __post_init__(self) -> None:
        check_fields(self)


def check_fields(settings: Any) -> None:
    """Raise `SettingError` unless every setting of a dataclass is as the type of its field says."""
    kind = settings.__class__
    _check_each(kind, {name: getattr(settings, name) for name, *_ in _checks_of(kind)})


def checked(function: F) -> F:
    """A function whose arguments are checked before anything is done, each as its annotation says."""
    form = signature(function)

    @wraps(function)
    def checking(*given: Any, **named: Any) -> Any:
        _check_each(function, form.bind_partial(*given, **named).arguments)
        return function(*given, **named)

    return cast("F", checking)


def _check_each(owner: Any, values: Mapping[str, Any]) -> None:
    for name, check, optional in _checks_of(owner):
        if name in values and not (optional and values[name] is None):
            check(name, values[name])


@cache
def _checks_of(owner: Any) -> list[tuple[str, Check, bool]]:
    """The checks that a class or function declares, in order, and whether ``None`` is allowed besides."""
    found = []
    for name, hint in _hints(owner).items():
        optional = NoneType in get_args(hint)
        allowed = [kind for kind in get_args(hint) if kind is not NoneType] if optional else [hint]
        if len(allowed) != 1:
            continue
        if get_origin(allowed[0]) is Annotated:
            found += [(name, check, optional) for check in allowed[0].__metadata__]
        elif get_origin(allowed[0]) is Literal:
            found.append((name, partial(check_choice, known=get_args(allowed[0])), optional))
    return found


def _hints(owner: Any) -> dict[str, Any]:
    """The annotations of a class or function; what is imported for type checkers alone may be anything."""
    absent: dict[str, Any] = {}
    while True:
        try:
            return get_type_hints(owner, localns=absent, include_extras=True)
        except NameError as error:
            absent[str(error.name)] = Any


def check_count(name: str, value: Any, *, at_least: int = 1) -> None:
    """Raise `SettingError` unless the setting is an integer of at least ``at_least``."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < at_least:
        raise SettingError(f"{name} is {value!r}; expected an integer of at least {at_least}")


def at_least(least: int) -> Check:
    """The check that a setting is an integer of at least ``least``."""
    return partial(check_count, at_least=least)


def check_counts(name: str, value: Any, *, at_least: int = 1) -> None:
    """Raise `SettingError` unless the setting is a tuple or list of integers of at least ``at_least``."""
    if not isinstance(value, tuple | list):
        raise SettingError(f"{name} is {value!r}; expected a tuple of integers of at least {at_least}")
    for each in value:
        check_count(f"each of {name}", each, at_least=at_least)


def check_switch(name: str, value: Any) -> None:
    """Raise `SettingError` unless the setting is a boolean."""
    if not isinstance(value, bool):
        raise SettingError(f"{name} is {value!r}; expected True or False")


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
        expected = "above 0" if positive else "of at least 0"
        raise SettingError(f"{name} is {value!r}; expected a finite number {expected}")


def check_number(name: str, value: Any) -> None:
    """Raise `SettingError` unless the setting is a finite number."""
    if not is_number(value):
        raise SettingError(f"{name} is {value!r}; expected a finite number")


def check_part(name: str, value: Any) -> None:
    """Raise `SettingError` unless the setting is a number from 0 to 1."""
    if not is_number(value) or not 0 <= value <= 1:
        raise SettingError(f"{name} is {value!r}; expected a number from 0 to 1")


def check_between(name: str, value: Any) -> None:
    """Raise `SettingError` unless the setting is a number between 0 and 1, and neither of them."""
    if not is_number(value) or not 0 < value < 1:
        raise SettingError(f"{name} is {value!r}; expected a number between 0 and 1")


def check_has(name: str, value: Any, method: str, example: str) -> None:
    """Raise `SettingError` unless the setting is an object with a method, not its name or its class."""
    if isinstance(value, type) or not callable(getattr(value, method, None)):
        raise SettingError(f"{name} is {value!r}; expected an object with {method}(...), such as {example}")


def has(method: str, example: str) -> Check:
    """The check that a setting is an object with a method."""
    return partial(check_has, method=method, example=example)


def is_number(value: Any) -> bool:
    """Whether this is a finite real number."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


Count = Annotated[int, check_count]
"""An integer of at least 1."""

CountOrZero = Annotated[int, at_least(0)]
"""An integer of at least 0."""

Several = Annotated[int, at_least(2)]
"""An integer of at least 2: with one class, or one arm, there is nothing to choose."""

Counts = Annotated[tuple[int, ...], check_counts]
"""Integers of at least 1, as many as one likes."""

Number = Annotated[float, check_number]
"""A finite number."""

NonNegative = Annotated[float, check_scale]
"""A finite number of at least 0."""

Positive = Annotated[float, partial(check_scale, positive=True)]
"""A finite number above 0."""

Part = Annotated[float, check_part]
"""A number from 0 to 1."""

Between = Annotated[float, check_between]
"""A number between 0 and 1, and neither of them."""

Bounds = Annotated[tuple[float, float], check_range]
"""A pair of finite numbers ``(low, high)``, in order."""

Flag = Annotated[bool, check_switch]
"""``True`` or ``False``."""
