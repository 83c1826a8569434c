"""A row of records: what was run on which episode by which learner, and how it went."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Annotated, Any

from mltk.checks import Checked, check_count
from mltk.errors import SettingError
from mltk.outside import check_depth, read_json
from mltk.plain import plain

LARGEST = 2**63 - 1
"""The largest integer that SQLite holds."""


def _check_text(name: str, value: Any) -> None:
    try:
        fits = isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:  # half a character
        fits = False
    if not fits:
        raise SettingError(f"{name} is {value!r}; expected a text that is not empty")


def _check_whole(name: str, value: Any) -> None:
    check_count(name, value, at_least=0)
    if value > LARGEST:
        raise SettingError(f"{name} is {value}; expected at most 2**63 - 1, the largest that a file can hold")


def _check_number(name: str, value: Any) -> None:
    try:
        if not isinstance(value, Real) or isinstance(value, bool):
            raise TypeError
        float(value)
    except (TypeError, OverflowError):
        raise SettingError(f"{name} is {value!r}; expected a number") from None


def _check_numbers(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise SettingError(f"{name} is {value!r}; expected a dict of numbers by name")
    for key, number in value.items():
        _check_text(f"a name in {name}", key)
        _check_number(f"{name}[{key!r}]", number)


def _check_trace(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise SettingError(f"{name} is {value!r}; expected a dict")
    _json(name, value)


Text = Annotated[str, _check_text]
Whole = Annotated[int, _check_whole]
Numbers = Annotated[Mapping[str, float], _check_numbers]


@dataclass(frozen=True)
class Row(Checked):
    """How a learner did on an episode, or in a step of a training.

    Attributes:
        run: What the row is part of. Rows are unique by this and the next four.
        source: Where the episode is from: see `mltk.toolkit.recording.source_of`.
        seed: Of the source, or of the training.
        episode: The number of the task, or of the step.
        learner: What the learner is called.
        metric: What the outcome is: ``"accuracy"``, ``"mse"``, ``"loss"``.
        outcome: How it went.
        measures: What else is known of the episode, by name.
        costs: What it took, such as ``"seconds"``.
        trace: Whatever else should be kept: numbers, texts, lists and dicts.

    Raises:
        SettingError: If one of them is not of its kind.

    Examples:
        >>> import mltk
        >>> row = mltk.toolkit.Row("first", "blobs", 0, 3, "ridge", "accuracy", 0.8, {"hardness": 0.4})
        >>> with mltk.Records() as records:
        ...     records.add([row]), records.add([row]), records.rows() == [row]
        (1, 0, True)
    """

    run: Text
    source: Text
    seed: Whole
    episode: Whole
    learner: Text
    metric: Text
    outcome: Annotated[float, _check_number]
    measures: Numbers = field(default_factory=dict)
    costs: Numbers = field(default_factory=dict)
    trace: Annotated[Mapping[str, Any], _check_trace] = field(default_factory=dict)

    def to_values(self) -> tuple[Any, ...]:
        """The row as the table has it: what is no finite number is null."""
        key = (self.run, self.source, int(self.seed), int(self.episode), self.learner)
        outcome = plain(float(self.outcome))
        told = [
            _json(name, {key: float(one) for key, one in getattr(self, name).items()})
            for name in ("measures", "costs")
        ]
        return (*key, self.metric, outcome, *told, _json("trace", self.trace))

    @classmethod
    def from_values(cls, *values: Any) -> Row:
        """A row from what the table has; null is NaN."""
        *key, metric, outcome, measures, costs, trace = values
        run, source, seed, episode, learner = key
        numbers = [
            {name: _number(one) for name, one in read_json(text).items()} for text in (measures, costs)
        ]
        told = (metric, _number(outcome), numbers[0], numbers[1], read_json(trace))
        return cls(run, source, seed, episode, learner, *told)


def _number(kept: Any) -> Any:
    return math.nan if kept is None else kept


def _json(name: str, value: Mapping[str, Any]) -> str:
    try:
        value = plain(dict(value))
        check_depth(value)
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise SettingError(
            f"{name} cannot be kept: {error}; expected numbers, texts, lists and dicts of them"
        ) from error
    return text
