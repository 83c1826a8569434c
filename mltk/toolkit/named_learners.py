"""Learners by name: those that are given, and names of those that are to be made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mltk.checks import check_choice, check_has
from mltk.errors import SettingError
from mltk.recipes import ALGORITHMS


def named_learners(learners: Any) -> dict[str, Any]:
    """Learners, and names of those that are to be made, by name.

    Args:
        learners: Names of `mltk.recipes.ALGORITHMS`, or a dict of these and of learners.

    Raises:
        SettingError: If there are none, or one is neither.
    """
    if isinstance(learners, Mapping):
        named = dict(learners.items())
    elif isinstance(learners, Sequence) and not isinstance(learners, str):
        named = {name: name for name in learners}
    else:
        raise SettingError(f"learners is {learners!r}; expected names, or a dict of learners by name")
    if not named or len(named) < len(learners):
        raise SettingError(f"learners is {learners!r}; expected at least one, and different names")
    for name, value in named.items():
        if not isinstance(name, str) or not name or name in (".", "..") or set(name) & set("/\\\0"):
            raise SettingError(f"learners has the name {name!r}; expected texts that can name folders")
        if isinstance(value, str):
            check_choice("each of learners", value, ALGORITHMS)
        else:
            check_has(f"learners[{name!r}]", value, "value_and_grad", "mltk.algorithms.MAML(...)")
    return named
