"""A case: what an implementation is given, and what it must return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Values = dict[str, Any]
"""Arrays under their names; a group of them (parameters, gradients) is a dict under its own name.

NumPy arrays of float64 or int64; a group is flat, with dotted names:
``{"params": {"0.weight": …}, "support_x": …}``.
"""

Kind = Literal["valid", "edge", "must-raise"]


@dataclass(frozen=True, eq=False)
class Case:
    """One row of a test: settings and inputs of a computation, and its exact outputs; equal to itself alone.

    Attributes:
        name: Lower case with hyphens, unique in its computation.
        kind: ``"valid"`` for ordinary input, ``"edge"`` where implementations differ, ``"must-raise"`` for
            input that must be refused.
        comment: What the case catches.
        settings: Numbers, strings, booleans, ``None``, and lists and dicts of them, as in JSON.
        inputs: What the candidate receives.
        expected: What it must return; empty for ``"must-raise"``.
        raises: The class of `mltk.errors` that mltk raises, for ``"must-raise"``.
        condition: How many times a relative change of the inputs grows on the way to the outputs, at
            least 1.
        least_condition: How small the condition may be found to be, where the usual algorithms do worse.
        tie: Whether the case lies on a kink on purpose, so that its condition cannot be measured.
        convention: Which of several answers mltk gives where mathematics has none, as for a slope at a kink:
            no verdict rests on the case.
    """

    name: str
    kind: Kind
    comment: str
    settings: Mapping[str, Any]
    inputs: Values
    expected: Values = field(default_factory=dict)
    raises: str | None = None
    condition: float = 1.0
    least_condition: float = 1.0
    tie: bool = False
    convention: str | None = None


class Deferred(dict[str, Any]):
    """Outputs of which some, here as functions, are computed when they are asked for."""

    def __getitem__(self, name: str) -> Any:
        """What is asked for."""
        value = super().__getitem__(name)
        if callable(value):
            value = self[name] = value()
        return value

    def items(self) -> Any:
        """All of them."""
        return [(name, self[name]) for name in self]


def flat(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """One level of dotted names: ``{"gradients": {"0.weight": g}}`` becomes ``{"gradients.0.weight": g}``."""
    return {
        f"{key}.{name}" if name else key: array
        for key, value in values.items()
        for name, array in (value.items() if isinstance(value, dict) else [("", value)])
    }


def mapped(change: Callable[[Any], Any], values: Mapping[str, Any]) -> Values:
    """Values with each array changed, also of those in groups."""
    return {
        name: mapped(change, value) if isinstance(value, dict) else change(value)
        for name, value in values.items()
    }
