"""What went wrong in a training and how it went on: told at once, and kept in its folder."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

from mltk.checks import is_number
from mltk.errors import RunError
from mltk.files import open_to_append, replace_file, writing
from mltk.outside import read_bytes, read_json, reading
from mltk.training.run_folder import RunFolder

NAME = "recovery.jsonl"
"""The file of a run folder with an event a line."""

LONGEST = 1 << 28
"""Bytes that it may have: about a million events."""

Kind = Literal["diverged", "raised", "skipped", "damaged"]
"""The loss or the parameters were no numbers; a source of tasks raised an error; its tasks were given up for
others; a checkpoint could not be read."""


class RecoveryWarning(UserWarning):
    """A training has gone back, or on with other tasks."""


@dataclass(frozen=True)
class Event:
    """Something that went wrong, and what was done.

    Attributes:
        kind: What went wrong.
        step: The step whose tasks were being drawn; of a divergence or a damaged checkpoint the one after
            which the training went on.
        what: The error, in its own words.
        number: Which retry it is of the training, or which attempt or replacement of those of the step.
        rate: What the updates are multiplied by from then on, after a divergence; ``None`` of other events.
    """

    kind: Kind
    step: int
    what: str
    number: int = 1
    rate: float | None = None

    def __post_init__(self) -> None:
        kinds, texts = get_args(Kind), (self.kind, self.what)
        if self.kind not in kinds or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"an event is {self.kind!r}; expected one of {', '.join(kinds)}")
        if not all(type(number) is int and number >= 0 for number in (self.step, self.number)):
            raise ValueError("step or number of an event is no number of times")
        if (self.kind == "diverged") != (is_number(self.rate) and 0 < float(self.rate or 0) < 1):
            raise ValueError(f"the rate of an event is {self.rate!r}")

    def __str__(self) -> str:
        """The event as a sentence."""
        return {
            "diverged": f"{self.what}; retry {self.number} goes on after step {self.step}, "
            f"with {self.rate or 1:.3g} of the rate",
            "raised": f"the tasks of step {self.step} cannot be drawn, attempt {self.number}: {self.what}",
            "skipped": f"the tasks of step {self.step} are left out, others are drawn: {self.what}",
            "damaged": f"{self.what}; the checkpoint before is taken, that after step {self.step}",
        }[self.kind]


class Log:
    """The events of a training, those of earlier calls first.

    Attributes:
        events: All of them.
    """

    def __init__(self, folder: RunFolder | None) -> None:
        """Read what is there.

        Raises:
            RunError: If it is damaged.
        """
        self._path = None if folder is None else folder.path / NAME
        self.events: list[Event] = []
        if self._path is not None and self._path.exists():
            with reading(self._path, RunError):
                *lines, cut_short = read_bytes(self._path, most=LONGEST).decode().split("\n")
                self.events = [_event(line) for line in lines]
            if cut_short:  # by a kill: what comes next would stand in the same line
                text = "".join(line + "\n" for line in lines)
                replace_file(self._path, lambda file: file.write(text.encode()))

    def of(self, kind: Kind) -> list[Event]:
        """The events of a kind."""
        return [event for event in self.events if event.kind == kind]

    @property
    def rate(self) -> float:
        """What the updates are multiplied by: as the last divergence left it."""
        return float(([1.0] + [event.rate or 1.0 for event in self.of("diverged")])[-1])

    def add(self, event: Event) -> None:
        """Write an event down before anything is done about it, and say it: all but an error that may pass.

        Raises:
            RunError: If it cannot be written.
        """
        if self._path is not None:
            with writing(self._path), open_to_append(self._path) as file:
                file.write((json.dumps(asdict(event)) + "\n").encode())
        self.events.append(event)
        if event.kind != "raised":
            warnings.warn(str(event), RecoveryWarning, stacklevel=2)


def _event(line: str) -> Event:
    found = read_json(line)
    if not isinstance(found, dict) or found.keys() != {each.name for each in fields(Event)}:
        raise ValueError("a line is no event")
    return Event(**found)
