"""Anybody's own arrays: feature vectors, images, ids of tokens, with the class of each example."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np

from mltk.checks import check_count
from mltk.data.images.class_identity import digests
from mltk.data.images.class_split import split_classes
from mltk.data.images.folder import SmallClassWarning
from mltk.data.images.pictures import Pictures
from mltk.data.images.tasks import ImageDataset
from mltk.errors import ArrayError, DtypeError, NotFiniteError, SettingError, ShapeError
from mltk.plain_arrays import check_plain

EXACT = 2**24
"""Integers up to here are exact in float32, in which they reach a learner."""


class Indexed(Protocol):
    """What can be asked for examples by their number, as a `torch.utils.data.Dataset`."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Any: ...


class Arrays(ImageDataset):
    """Labelled examples in an array, for few-shot classification; all is as with a dataset of images.

    Inputs reach the learner as floating numbers. Integers, ids of tokens, do so exactly; a module that looks
    them up says ``x.long()``. Arrays do not go into the configuration of a run: `mltk.load_run` is given the
    tasks again.

    Attributes:
        left_out: The classes with fewer than ``at_least`` examples, and how many they have.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> features, classes = np.eye(6), ["a", "a", "b", "b", "c", "c"]
        >>> tasks = mltk.data.Arrays(features, classes).tasks(ways=2, shots=1, queries=1)
        >>> tasks.sample(4, 0, mltk.backend("numpy")).support_x.shape
        (4, 2, 6)
    """

    def __init__(
        self, x: np.ndarray, y: np.ndarray, groups: np.ndarray | None = None, *, at_least: int | None = None
    ) -> None:
        """Take the arrays; they are copied.

        Args:
            x: Examples ``(N, *features)``, floating or ids of tokens.
            y: The class of each, integers or strings ``(N,)``.
            groups: The group of each example's class, integers or strings ``(N,)``; ``None`` for no groups.
            at_least: Classes with fewer examples are left out, with a `SmallClassWarning`; ``None`` leaves
                out none.

        Raises:
            ArrayError: If something is no array, or a masked one or a matrix.
            ShapeError: If the arrays do not fit each other, or are empty.
            DtypeError: If examples are neither floating nor ids, or classes neither integers nor strings.
            NotFiniteError: If an example holds NaN or infinity.
            SettingError: If a class is in two groups, no class has enough examples, or ``at_least`` is no
                positive integer.
        """
        x, y = _as_array("x", x), _as_array("y", y)
        _check(x, y)
        if at_least is not None:
            check_count("at_least", at_least)
        labels, numbers, counts = np.unique(y, return_inverse=True, return_counts=True)
        few = counts < (at_least or 1)
        self.at_least = at_least
        self.left_out = tuple((str(labels[c]), int(counts[c])) for c in np.flatnonzero(few))
        if few.all():
            raise SettingError(f"no class has at_least = {at_least} examples")
        if self.left_out:
            named = "; ".join(f"{name} ({count})" for name, count in self.left_out[:10])
            message = f"{few.sum()} classes have fewer than at_least = {at_least} examples: {named}"
            warnings.warn(message, SmallClassWarning, stacklevel=2)
        order = np.argsort(numbers, kind="stable")
        order = order[~few[numbers[order]]]
        first = np.searchsorted(numbers[order], np.flatnonzero(~few))
        self._held = Pictures(
            x[order].astype(np.float32 if x.dtype != np.float64 else np.float64),
            counts[~few],
            tuple(str(label) for label in labels[~few]),
            None if groups is None else _groups_of(_as_array("groups", groups), numbers)[order][first],
        )
        self._whole: Arrays = self

    @classmethod
    def from_dataset(cls, dataset: Indexed, *, at_least: int | None = None) -> Self:
        """The examples of a `torch.utils.data.Dataset`, or of anything like it, read one by one.

        Args:
            dataset: Gives pairs of an example and its class; all examples have one shape.
            at_least: As above.

        Raises:
            SettingError: If this is no dataset with a length, or gives no pairs.
            ShapeError: If examples differ in shape, or there are none.
        """
        if isinstance(dataset, type) or not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise SettingError(f"dataset is {dataset!r}; expected a dataset with a length and numbered items")
        pairs = [dataset[index] for index in range(len(dataset))]
        if odd := [pair for pair in pairs if not isinstance(pair, tuple | list) or len(pair) < 2]:
            raise SettingError(
                f"dataset gives items of type {type(odd[0]).__name__}; expected pairs (example, class)"
            )
        examples = [_as_array("an example of dataset", pair[0]) for pair in pairs]
        if len({x.shape for x in examples}) != 1:
            raise ShapeError(
                f"dataset has examples of shapes {sorted({x.shape for x in examples})}; expected one"
            )
        return cls(
            np.stack(examples), np.asarray([np.asarray(pair[1])[()] for pair in pairs]), at_least=at_least
        )

    def __repr__(self) -> str:
        """The sizes."""
        images, counts, _, groups = self._held
        extra = "" if groups is None else f", {len(self.group_names)} groups"
        return f"Arrays({len(images)} examples {images.shape[1:]} of {len(counts)} classes{extra})"

    def split(self, fractions: Sequence[float], *, seed: int = 0) -> tuple[Arrays, ...]:
        """Datasets that share no class.

        Args:
            fractions: The share of the classes that each has, 1 in all, such as ``(0.64, 0.16, 0.2)``.
            seed: Which classes go where.

        Raises:
            SettingError: If the fractions are not valid or leave a part without classes.
        """
        return tuple(self._only(part) for part in split_classes(self.class_names, fractions, seed=seed))

    def held_out(self) -> Arrays:
        """The classes of the same arrays that a part of a split does not hold.

        Raises:
            SettingError: If all classes are in this dataset.
        """
        others = tuple(name for name in self._whole.class_names if name not in self.class_names)
        if not others:
            raise SettingError("all classes of these arrays are in this dataset; expected a part of a split")
        return self._whole._only(others)

    def take(self, numbers: np.ndarray, *, rotations: bool = False) -> np.ndarray:
        """Some of the examples, as a new array ``(*numbers.shape, *features)``.

        Raises:
            SettingError: If they should be rotated.
        """
        if rotations:
            raise SettingError("rotations is True; expected False, for arrays that need not be images")
        return np.asarray(self._held.images[numbers])

    @cached_property
    def pictures(self) -> Pictures:
        """The examples, those of one class together; they need not be images."""
        return self._held

    @cached_property
    def class_digests(self) -> tuple[tuple[str, ...], ...]:
        """A digest of each example of each class."""
        return digests(self._held.images, self._held.counts)

    def _load(self) -> Pictures:
        return self._held

    def _only(self, names: Sequence[str]) -> Arrays:
        """Some of the classes."""
        images, counts, known, groups = self._held
        chosen = np.asarray([name in names for name in known])
        part = object.__new__(Arrays)
        part.at_least, part.left_out, part._whole = self.at_least, (), self._whole
        part._held = Pictures(
            images[np.repeat(chosen, counts)],
            counts[chosen],
            tuple(name for name in known if name in names),
            None if groups is None else groups[chosen],
        )
        return part


def _as_array(name: str, value: Any) -> np.ndarray:
    """A plain array on the host."""
    check_plain(name, value)
    try:
        return np.asarray(value)
    except Exception as error:  # lists within lists, and tensors of any library, fail in their own ways
        raise ArrayError(f"{name} is no array, and NumPy cannot make one of it: {error}") from error


def _check(x: np.ndarray, y: np.ndarray) -> None:
    """Check examples and their classes."""
    if x.ndim < 2 or 0 in x.shape:
        raise ShapeError(f"x has shape {x.shape}; expected (N, *features), not empty")
    if y.shape != x.shape[:1]:
        raise ShapeError(f"y has shape {y.shape}; expected ({len(x)},), a class for each example in x")
    if y.dtype.kind not in "iuUO" or (y.dtype.kind == "O" and not all(isinstance(name, str) for name in y)):
        raise DtypeError(f"y has dtype {y.dtype}; expected integers or strings")
    if x.dtype.kind not in "fiu" or x.dtype == np.uint8:
        raise DtypeError(
            f"x has dtype {x.dtype}; expected floating numbers (images divided by 255), "
            "or ids of tokens as int64"
        )
    if x.dtype.kind != "f" and np.abs(x).max() > EXACT:
        raise DtypeError(f"x holds ids up to {np.abs(x).max()}; expected at most {EXACT}, exact in float32")
    if not np.isfinite(x).all():
        raise NotFiniteError("x holds NaN or infinity; expected finite numbers")


def _groups_of(groups: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """The group of each example as a string, if all examples of a class agree."""
    if groups.shape != numbers.shape:
        raise ShapeError(f"groups has shape {groups.shape}; expected {numbers.shape}, one for each example")
    pairs = {(int(number), str(group)) for number, group in zip(numbers, groups, strict=True)}
    if len(pairs) != len(np.unique(numbers)):
        raise SettingError("groups puts a class into two groups; expected one for all its examples")
    return np.asarray([str(group) for group in groups])
