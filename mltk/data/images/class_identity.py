"""What makes a class the same class: its examples, wherever they lie and whatever they are called.

A run keeps a digest of every example of every class that it was trained on. Whether a class was seen in
training is then a matter of fact: it was if it has an example in common with one of those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

DIGITS = 12
"""Hexadecimal digits of a digest: of a million examples, two different ones agree with probability 0.2 %."""

TrainedOn = Mapping[str, Sequence[str]]
"""The digests of the examples of each class of a training, by the name of the class."""


class Identified(Protocol):
    """A task source whose classes have names and examples."""

    @property
    def class_names(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def class_digests(self) -> Sequence[Sequence[str]]: ...  # noqa: D102


def digests(examples: np.ndarray, counts: np.ndarray) -> tuple[tuple[str, ...], ...]:
    """A digest of each example of each class.

    Args:
        examples: ``(N, *shape)``, those of one class together and the classes in order.
        counts: How many examples each class has.
    """
    form = f"{examples.dtype} {examples.shape[1:]} ".encode()
    found = [hashlib.sha256(form + np.ascontiguousarray(x).tobytes()).hexdigest()[:DIGITS] for x in examples]
    ends = np.cumsum(counts)
    return tuple(tuple(found[start:end]) for start, end in zip(ends - counts, ends, strict=True))


def trained_on(tasks: Any) -> TrainedOn | None:
    """What a run must keep of the classes that it is trained on; ``None`` for tasks without such classes."""
    own = getattr(tasks, "class_digests", None)
    if own is None:
        return None
    found: dict[str, tuple[str, ...]] = {}
    # Classes that are turned follow those that they are made of, and have no digests of their own.
    for name, examples in zip(tasks.class_names, own, strict=False):
        found[name] = (*found.get(name, ()), *examples)
    return found


class Seen(NamedTuple):
    """Which classes were seen in training.

    Attributes:
        trained: Whether a class shares an example with one that was trained on, ``(classes,)`` booleans;
            ``None`` if nothing is known of the training.
        named: Whether it does not, but has the name of one.
    """

    trained: np.ndarray | None
    named: np.ndarray

    def of(self, classes: np.ndarray) -> Seen:
        """The same for some of the classes, by their numbers; those that are turned are what they were."""
        numbers = classes.reshape(-1) % len(self.named)
        return Seen(None if self.trained is None else self.trained[numbers], self.named[numbers])

    def __str__(self) -> str:
        count = len(self.named)
        if self.trained is None:
            return f"{count} classes (whether they were trained on is not known)"
        trained, named = int(self.trained.sum()), int(self.named.sum())
        if trained == count:
            return f"{count} classes, all of which were trained on"
        namesakes = f" ({named} of them called like classes that were trained on)" if named else ""
        if trained:
            return f"{count} classes: {trained} trained on, {count - trained} unseen{namesakes}"
        return f"{count} unseen classes{namesakes}"


def seen(tasks: Identified, training: TrainedOn | None) -> Seen:
    """Which classes of a task source were seen in a training.

    Args:
        tasks: The source. If its names are made up (``names_identify`` is false), they say nothing.
        training: What a run keeps of its classes; ``None`` if it keeps nothing.
    """
    own = tasks.class_digests
    if training is None:
        return Seen(None, np.zeros(len(own), bool))
    known = {digest for examples in training.values() for digest in examples}
    trained = np.asarray([not known.isdisjoint(examples) for examples in own])
    alike = np.asarray([name in training for name in tasks.class_names[: len(own)]])
    return Seen(trained, alike & ~trained & getattr(tasks, "names_identify", True))
