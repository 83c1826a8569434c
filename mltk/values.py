"""Checks of the values of data: what every door does before any work, where it waits for no device."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import numpy as np

from mltk.errors import ArrayError, LabelError, NotFiniteError
from mltk.tree import Array

if TYPE_CHECKING:
    from mltk.contracts import Backend


def host_values(backend: Backend, array: Array) -> np.ndarray | None:
    """The values of an array that is on the host; ``None`` for one on a device, or one without values.

    Those of Torch have none while a function of `torch.func` traces them.
    """
    if backend.device != "cpu":
        return None
    try:
        return backend.to_numpy(array)
    except ArrayError:
        return None


def check_finite(backend: Backend, name: str, array: Array) -> None:
    """Raise `NotFiniteError` if numbers of an array are NaN or infinite; those of a device are fetched."""
    if not isinstance(array, np.ndarray):
        # NaN and infinity stay in a sum, which its own library takes in less time than NumPy looks at all.
        if math.isfinite(float(backend.to_numpy(backend.xp.sum(array)))):
            return
        array = backend.to_numpy(array)
    # Counting takes half the time that `all` does for the few numbers of a small task.
    if np.count_nonzero(np.isfinite(array)) < array.size:
        raise NotFiniteError(f"{name} holds NaN or infinity; expected finite numbers")


def check_finite_on_host(backend: Backend, name: str, array: Array) -> None:
    """`check_finite`, where that waits for no device, and there are values: see `host_values`."""
    if backend.device == "cpu":
        with contextlib.suppress(ArrayError):
            check_finite(backend, name, array)


def check_labels(name: str, labels: np.ndarray, ways: int | None) -> None:
    """Raise `LabelError` if a label lies outside ``0..ways-1``, or without ``ways`` below 0."""
    low, high = labels.min(), labels.max()
    if ways is None:
        if low < 0:
            raise LabelError(f"{name} holds the label {low}; expected none below 0")
    elif low < 0 or high >= ways:
        hint = "; labels start from 0" if low == 1 and high == ways else ""
        raise LabelError(f"{name} holds the label {low if low < 0 else high}; expected 0..{ways - 1}{hint}")


def check_support_labels(name: str, labels: np.ndarray, ways: int | None) -> int:
    """Check that labels ``(T, N, ...)`` of support sets lie in ``0..ways-1``, and that each class has one.

    Args:
        name: The argument that they came in.
        labels: The labels.
        ways: How many classes each task has; ``None`` for one more than the largest label.

    Returns:
        How many classes each task has.

    Raises:
        LabelError: If not, naming the label, or the task and the class.
    """
    check_labels(name, labels, ways)
    found = int(labels.max()) + 1 if ways is None else int(ways)
    # Of more classes than examples some have none: it is enough to look for one more.
    present = np.zeros((len(labels), min(found, labels[0].size + 1)), dtype=bool)
    looked_for = labels < present.shape[1]
    present[np.nonzero(looked_for)[0], labels[looked_for]] = True
    if not present.all():
        task, label = np.argwhere(~present)[0]
        inferred = f", since ways is None and the largest label is {found - 1}" if ways is None else ""
        raise LabelError(
            f"{name} of task {task} has no example of class {label}; expected all {found} classes{inferred}"
        )
    return found
