"""Episodes: the support and query sets of a meta-batch of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mltk.backend import check_backend, check_same, common_backend
from mltk.errors import ArrayError, DtypeError, LabelError, NotFiniteError, SettingError, ShapeError
from mltk.tree import Array

if TYPE_CHECKING:
    from mltk.backend import Backend

ARRAYS = ("support_x", "support_y", "query_x", "query_y")

IDENTITIES = ("classes", "groups")
"""What an episode may say of its classes: arrays on the host."""


@dataclass(frozen=True)
class Episode:
    """T tasks, each with examples to adapt to and examples to be judged on.

    Shapes, dtypes and devices are checked on construction; `validate` checks the values too.

    Attributes:
        support_x: Inputs to adapt to, floating, ``(T, N, *features)``.
        support_y: Their targets: integer labels ``(T, N)``, or for regression floating ``(T, N, d)``.
        query_x: Inputs to be judged on, floating, ``(T, M, *features)``.
        query_y: Their targets, like ``support_y``.
        ways: How many classes each task has; ``None`` for regression.
        backend: The backend of the arrays; ``None`` finds it from them, with its default engine.
        classes: Which class each label of each task stands for, NumPy integers ``(T, ways)``: numbers of
            the ``class_names`` of the task source. ``None`` if nothing is known, and for regression.
        groups: The group of each of these classes (an alphabet, a superclass), NumPy integers ``(T, ways)``:
            numbers of the ``group_names`` of the task source. ``None`` if there are none.

    Raises:
        ArrayError: If one of the four is not an array, or ``classes`` or ``groups`` not one of NumPy.
        ShapeError: If the axes do not fit each other, or a set is empty.
        DtypeError: If inputs are not floating, labels, classes or groups not integer, or regression targets
            not floating.
        MismatchError: If the arrays differ in backend, device or floating dtype.
        LabelError: If a class or group is negative.
        SettingError: If ``ways`` is not a positive integer, ``backend`` no backend, or classes or groups are
            given for regression.
    """

    support_x: Array
    support_y: Array
    query_x: Array
    query_y: Array
    ways: int | None = field(default=None, kw_only=True)
    backend: Backend = field(default=cast("Backend", None), kw_only=True)
    classes: np.ndarray | None = field(default=None, kw_only=True)
    groups: np.ndarray | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.ways is not None and (
            not isinstance(self.ways, Integral) or isinstance(self.ways, bool) or self.ways < 1
        ):
            raise SettingError(f"ways is {self.ways!r}; expected a positive integer, or None for regression")
        arrays = {name: (getattr(self, name),) for name in ARRAYS}
        if self.backend is None:
            object.__setattr__(self, "backend", common_backend(**arrays))
        else:
            check_backend(self.backend)
            check_same(self.backend, **arrays)
        for part in ("support", "query"):
            x, y = getattr(self, f"{part}_x"), getattr(self, f"{part}_y")
            check_inputs(self.backend, f"{part}_x", x)
            self._check_targets(f"{part}_y", y, x)
        self._check_sets()
        for name in IDENTITIES:
            if (numbers := getattr(self, name)) is not None:
                self._check_identities(name, numbers)

    def take(self, tasks: slice) -> Episode:
        """Some of the tasks, as an episode of their own.

        Args:
            tasks: Which ones, at least one.
        """
        present = [name for name in (*ARRAYS, *IDENTITIES) if getattr(self, name) is not None]
        parts: dict[str, Any] = {name: getattr(self, name)[tasks] for name in present}
        return replace(self, **parts)

    def to(self, backend: Backend) -> Episode:
        """The same tasks as arrays of another backend.

        Args:
            backend: Where they go, and their floating dtype.
        """
        check_backend(backend)
        arrays: dict[str, Any] = {
            name: backend.asarray(self.backend.to_numpy(getattr(self, name))) for name in ARRAYS
        }
        return replace(self, **arrays, backend=backend)

    def validate(self) -> Episode:
        """Check the values, and return the episode itself.

        This copies the data to the host.

        Raises:
            NotFiniteError: If an array holds NaN or infinity.
            LabelError: If a label lies outside ``0..ways-1`` or a class has no support example.
        """
        for name in ARRAYS:
            values = self.backend.to_numpy(getattr(self, name))
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise NotFiniteError(f"{name} holds NaN or infinity; expected finite numbers")
        if self.ways is None:
            return self
        for name in ("support_y", "query_y"):
            labels = self.backend.to_numpy(getattr(self, name))
            outside = labels[(labels < 0) | (labels >= self.ways)]
            if outside.size:
                raise LabelError(f"{name} holds the label {outside[0]}; expected 0..{self.ways - 1}")
        labels = self.backend.to_numpy(self.support_y)
        present = (labels[..., None] == np.arange(self.ways)).any(axis=1)
        if not present.all():
            task, label = np.argwhere(~present)[0]
            raise LabelError(
                f"support_y of task {task} has no example of class {label}; expected all {self.ways} classes"
            )
        return self

    def _check_targets(self, name: str, y: Array, x: Array) -> None:
        labels = self.ways is not None
        if not self.backend.xp.isdtype(y.dtype, "integral" if labels else "real floating"):
            expected = "integer labels" if labels else "floating numbers"
            raise DtypeError(f"{name} has dtype {y.dtype}; expected {expected}")
        if y.ndim != (2 if labels else 3) or y.shape[:2] != x.shape[:2]:
            raise ShapeError(
                f"{name} has shape {tuple(y.shape)}; expected {'(T, N)' if labels else '(T, N, d)'} "
                f"with (T, N) = {tuple(x.shape[:2])} as in {name[:-1]}x"
            )
        if 0 in y.shape:
            raise ShapeError(f"{name} has shape {tuple(y.shape)}; expected a set that is not empty")

    def _check_sets(self) -> None:
        """Support and query must hold the same tasks, and examples of the same shape."""
        tasks = self.support_x.shape[0]
        if self.query_x.shape[0] != tasks:
            raise ShapeError(f"query_x has {self.query_x.shape[0]} tasks; expected {tasks} as in support_x")
        for kind in ("x", "y"):
            support, query = getattr(self, f"support_{kind}"), getattr(self, f"query_{kind}")
            if support.shape[2:] != query.shape[2:]:
                raise ShapeError(
                    f"query_{kind} has examples of shape {tuple(query.shape[2:])}; "
                    f"expected {tuple(support.shape[2:])} as in support_{kind}"
                )

    def _check_identities(self, name: str, numbers: np.ndarray) -> None:
        """Classes and groups are host integers ``(T, ways)``, and so cheap that their values are checked."""
        if self.ways is None:
            raise SettingError(f"{name} is given, but ways is None (regression); expected no {name}")
        if not isinstance(numbers, np.ndarray):
            raise ArrayError(f"{name} holds a {type(numbers).__name__}; expected a NumPy array")
        if numbers.dtype.kind not in "iu":
            raise DtypeError(f"{name} has dtype {numbers.dtype}; expected integers")
        expected = (self.support_x.shape[0], self.ways)
        if numbers.shape != expected:
            raise ShapeError(f"{name} has shape {numbers.shape}; expected (T, ways) = {expected}")
        if numbers.min() < 0:
            raise LabelError(f"{name} holds {numbers.min()}; expected numbers of names, which start at 0")


def joined(episodes: Sequence[Episode]) -> Episode:
    """The tasks of several episodes as those of one.

    Args:
        episodes: At least one; all of one backend, with equally many ways and examples. What they say of
            classes and groups is kept where all of them say it.

    Raises:
        ShapeError: If they do not fit each other.
    """
    first = episodes[0]
    if len(episodes) == 1:
        return first
    for other in episodes[1:]:
        if form(other) != form(first):
            raise ShapeError(f"episodes have the forms {form(first)} and {form(other)}; expected one form")
    parts: dict[str, Any] = {
        name: first.backend.xp.concat([getattr(episode, name) for episode in episodes], axis=0)
        for name in ARRAYS
    }
    for name in IDENTITIES:
        numbers = [getattr(episode, name) for episode in episodes]
        parts[name] = None if any(part is None for part in numbers) else np.concatenate(numbers)
    return replace(first, **parts)


def form(episode: Episode) -> tuple[Any, ...]:
    """What episodes must have in common to be joined: ways, dtypes, and shapes but for the task axis."""
    arrays = [getattr(episode, name) for name in ARRAYS]
    return (episode.ways, *((tuple(array.shape[1:]), str(array.dtype)) for array in arrays))


def check_inputs(backend: Backend, name: str, x: Array) -> None:
    """Check the inputs of one set: an array that belongs to the backend.

    Raises:
        DtypeError: If it is not floating.
        ShapeError: If it is not ``(T, N, *features)``, or empty.
    """
    if not backend.xp.isdtype(x.dtype, "real floating"):
        raise DtypeError(f"{name} has dtype {x.dtype}; expected floating numbers")
    if x.ndim < 3:
        raise ShapeError(f"{name} has shape {tuple(x.shape)}; expected (T, N, *features)")
    if 0 in x.shape:
        raise ShapeError(f"{name} has shape {tuple(x.shape)}; expected a set that is not empty")
