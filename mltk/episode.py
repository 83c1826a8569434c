"""Episodes: the support and query sets of a meta-batch of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from mltk.arguments import check_finite_on_host, check_support_labels, check_values, host_values, validate
from mltk.backend import check_backend, check_same, common_backend
from mltk.checks import check_count
from mltk.errors import ArrayError, DtypeError, LabelError, NotFiniteError, SettingError, ShapeError
from mltk.summary import Lines, Summary, array_in_words
from mltk.tree import Array

if TYPE_CHECKING:
    from mltk.contracts import Backend

ARRAYS = ("support_x", "support_y", "query_x", "query_y")

NO_TASKS = "; is the axis of the tasks missing? array[None] makes one task of a set"
"""The end of an error."""

IDENTITIES = ("classes", "groups")
"""What an episode may say of its classes: arrays on the host."""

ON_HOST = (*IDENTITIES, "weights")
"""All that an episode may say of its tasks beside their examples."""


@dataclass(frozen=True, repr=False)
class Episode(Summary):
    r"""T tasks, each with examples to adapt to and examples to be judged on.

    Shapes, dtypes and devices are checked on construction. The values are checked by whatever takes the
    episode, once and before any work, if they are on the host; `validate` checks those on a device too.

    Attributes:
        support_x: Inputs to adapt to, floating, ``(T, N, *features)``.
        support_y: Their targets: integer labels ``(T, N)``, or for regression floating ``(T, N, d)``; dense
            ones have more axes, such as labels of pixels ``(T, N, height, width)``.
        query_x: Inputs to be judged on, floating, ``(T, M, *features)``.
        query_y: Their targets, like ``support_y``.
        ways: How many classes each task has; ``None`` for regression.
        backend: The backend of the arrays; ``None`` finds it from them, with its default engine.
        classes: Which class each label of each task stands for, NumPy integers ``(T, ways)``: numbers of
            the ``class_names`` of the task source. ``None`` if nothing is known, and for regression.
        groups: The group of each of these classes (an alphabet, a superclass), NumPy integers ``(T, ways)``:
            numbers of the ``group_names`` of the task source. ``None`` if there are none.
        weights: What the loss of each task counts for in training, floating NumPy ``(T,)``, at least 0: the
            meta-loss is then $\frac1T \sum_t w_t L_t$. ``None`` for 1 each.

    Raises:
        ArrayError: If one of the four is not an array, or ``classes``, ``groups`` or ``weights`` not one of
            NumPy.
        ShapeError: If the axes do not fit each other, or a set is empty.
        DtypeError: If inputs or weights are not floating, labels, classes or groups not integer, or
            regression targets not floating.
        NotFiniteError: If a weight is NaN or infinite.
        MismatchError: If the arrays differ in backend, device or floating dtype.
        LabelError: If a class or group is negative.
        SettingError: If ``ways`` is not a positive integer, ``backend`` no backend, a weight negative, or
            classes or groups are given for regression.

    Examples:
        >>> import mltk
        >>> episode = mltk.data.Blobs(ways=5, shots=1, queries=3).sample(4, 0, mltk.backend("numpy"))
        >>> episode.ways, episode.support_x.shape, episode.query_y.shape
        (5, (4, 5, 5), (4, 15))
        >>> episode.take(slice(2)).support_x.shape
        (2, 5, 5)
    """

    support_x: Array
    support_y: Array
    query_x: Array
    query_y: Array
    ways: int | None = field(default=None, kw_only=True)
    backend: Backend = field(default=cast("Backend", None), kw_only=True)
    classes: np.ndarray | None = field(default=None, kw_only=True)
    groups: np.ndarray | None = field(default=None, kw_only=True)
    weights: np.ndarray | None = field(default=None, kw_only=True)

    values_passed = False  # no field: what is made of this episode has not passed

    def __post_init__(self) -> None:
        if self.ways is not None:
            check_count("ways", self.ways)
        arrays = {name: (getattr(self, name),) for name in ARRAYS}
        if self.backend is None:
            object.__setattr__(self, "backend", common_backend(**arrays))
        else:
            check_backend(self.backend)
            check_same(self.backend, **arrays)
        for part in ("support", "query"):
            x, y = getattr(self, f"{part}_x"), getattr(self, f"{part}_y")
            check_inputs(self.backend, f"{part}_x", x)
            check_targets(self.backend, f"{part}_y", y, x, labels=self.ways is not None)
        self._check_sets()
        for name in IDENTITIES:
            if (numbers := getattr(self, name)) is not None:
                self._check_identities(name, numbers)
        if self.weights is not None:
            self._check_weights(self.weights)

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        tasks = self.support_x.shape[0]
        kind = "regression" if self.ways is None else f"{self.ways}-way classification"
        present = [name for name in (*ARRAYS, *ON_HOST) if getattr(self, name) is not None]
        lines = [(name, array_in_words(getattr(self, name))) for name in present]
        lines.append(("backend", f"{self.backend.name} on {self.backend.device}"))
        return f"Episode: {tasks} task{'s' * (tasks != 1)}, {kind}", lines

    def take(self, tasks: slice) -> Episode:
        """Some of the tasks, as an episode of their own.

        Args:
            tasks: Which ones, at least one.
        """
        present = [name for name in (*ARRAYS, *ON_HOST) if getattr(self, name) is not None]
        parts: dict[str, Any] = {name: getattr(self, name)[tasks] for name in present}
        return replace(self, **parts)

    def weighted(self, leaf: Array) -> Array:
        """An array with one loss or gradient a task, ``(T, ...)``, times the weights, if there are any."""
        if self.weights is None:
            return leaf
        column = self.weights.reshape(-1, *[1] * (leaf.ndim - 1))
        return self.backend.asarray(column) * leaf

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
        validate(self)
        return self

    def check_values(self, *, fetch_targets: bool = False) -> None:
        """See `mltk.arguments.check_values`."""
        check_values(self, fetch_targets=fetch_targets)

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

    def _check_weights(self, weights: np.ndarray) -> None:
        """Weights are on the host: whoever chose the tasks has computed them there."""
        if not isinstance(weights, np.ndarray):
            raise ArrayError(f"weights holds a {type(weights).__name__}; expected a NumPy array")
        if weights.dtype.kind != "f":
            raise DtypeError(f"weights has dtype {weights.dtype}; expected floating numbers")
        if weights.shape != (self.support_x.shape[0],):
            raise ShapeError(
                f"weights has shape {weights.shape}; expected one a task, ({self.support_x.shape[0]},)"
            )
        if not np.isfinite(weights).all():
            raise NotFiniteError("weights holds NaN or infinity")
        if weights.min() < 0:
            raise SettingError(f"weights holds {weights.min()}; expected at least 0")

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
            classes and groups is kept where all of them say it; tasks without weights have weight 1 beside
            those with.

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
    if any(episode.weights is not None for episode in episodes):
        ones = [np.ones(len(e.support_x)) if e.weights is None else e.weights for e in episodes]
        parts["weights"] = np.concatenate(ones)
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
        hint = NO_TASKS if x.ndim == 2 else ""
        raise ShapeError(f"{name} has shape {tuple(x.shape)}; expected (T, N, *features){hint}")
    if 0 in x.shape:
        raise ShapeError(f"{name} has shape {tuple(x.shape)}; expected a set that is not empty")


def check_query(backend: Backend, x: Array) -> None:
    """Check the inputs of a query set that belong to the backend, and on the host their values.

    Raises:
        DtypeError: If they are not floating.
        ShapeError: If they are not ``(T, M, *features)``, or empty.
        NotFiniteError: If one is NaN or infinite.
    """
    check_inputs(backend, "query_x", x)
    check_finite_on_host(backend, "query_x", x)


def check_targets(backend: Backend, name: str, y: Array, x: Array, *, labels: bool) -> None:
    """Check the targets of one set, which belong to the backend.

    Args:
        backend: That of the arrays.
        name: ``"support_y"`` or ``"query_y"``.
        y: Labels ``(T, N, ...)``, or floating ``(T, N, d, ...)``.
        x: Their inputs.
        labels: Which of the two is expected.

    Raises:
        DtypeError: If labels are not integer, or regression targets not floating.
        ShapeError: If they do not fit the inputs, or are empty.
    """
    if not backend.xp.isdtype(y.dtype, "integral" if labels else "real floating"):
        expected = "integer labels, since ways is given" if labels else "floating numbers"
        if not labels and backend.xp.isdtype(y.dtype, "integral"):
            expected += ", or for labels ways=…, how many classes each task has"
        raise DtypeError(f"{name} has dtype {y.dtype}; expected {expected}")
    if y.ndim == (1 if labels else 2) and y.shape[:1] == x.shape[:1]:
        raise ShapeError(
            f"{name} has shape {tuple(y.shape)}; expected {'(T, N)' if labels else '(T, N, d)'}{NO_TASKS}"
        )
    column = labels and tuple(y.shape[2:]) == (1,)  # of labels, where they were meant to be a row
    if y.ndim < (2 if labels else 3) or y.shape[:2] != x.shape[:2] or column:
        raise ShapeError(
            f"{name} has shape {tuple(y.shape)}; expected {'(T, N, ...)' if labels else '(T, N, d, ...)'} "
            f"with (T, N) = {tuple(x.shape[:2])} as in {name[:-1]}x"
        )
    if 0 in y.shape:
        raise ShapeError(f"{name} has shape {tuple(y.shape)}; expected a set that is not empty")


def check_support(backend: Backend, x: Array, y: Array, ways: int | None, *, wait: bool) -> int | None:
    """Check a support set that belongs to the backend: shapes, dtypes and, on the host, values.

    Args:
        backend: That of the arrays.
        x: Inputs ``(T, N, *features)``.
        y: Labels ``(T, N)``, or floating ``(T, N, d)``.
        ways: How many classes each task has; ``None`` for one more than the largest label, or regression.
        wait: Whether to fetch labels from a device if ``ways`` is ``None``.

    Returns:
        How many classes each task has; ``None`` for regression, and if nobody waited.

    Raises:
        DtypeError: If inputs are not floating, or targets neither integer nor floating.
        ShapeError: If targets do not fit the inputs, or the set is empty.
        SettingError: If ``ways`` is not a positive integer, or there are no labels.
        LabelError: If a label lies outside ``0..ways-1``, or a class has no example.
        NotFiniteError: If a number is NaN or infinite.
    """
    check_inputs(backend, "support_x", x)
    labels = bool(backend.xp.isdtype(y.dtype, "integral"))
    check_targets(backend, "support_y", y, x, labels=labels)
    if ways is not None:
        check_count("ways", ways)
        if not labels:
            raise SettingError(f"ways is {ways} and support_y has dtype {y.dtype}; expected integer labels")
    check_finite_on_host(backend, "support_x", x)
    if not labels:
        check_finite_on_host(backend, "support_y", y)
        return None
    targets = host_values(backend, y)
    if targets is None and ways is None and wait:
        targets = backend.to_numpy(y)
    return ways if targets is None else check_support_labels("support_y", targets, ways)
