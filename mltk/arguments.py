"""Checks of what is passed: data with values to learn from, and parameters that fit the model.

They come before any work, and wait for no device.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from mltk import tree
from mltk.backend import check_same, common_backend
from mltk.contracts import Backend, Engine, Model
from mltk.errors import (
    ArrayError,
    DtypeError,
    LabelError,
    MismatchError,
    MltkError,
    NotFiniteError,
    ShapeError,
    TreeError,
)
from mltk.plain_arrays import check_plain
from mltk.tree import Array, Tree


class StepCheck:
    """What a learner that moves a model's parameters checks before a step of meta-training.

    What is to be known of the model is found once.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._axes = getattr(model, "example_axes", None)
        self._constants = tuple(getattr(model, "constant_shapes", ()))
        self._widths: dict[tuple[int, ...], int] = {}

    def __call__(
        self, shapes: Mapping[str, tuple[int, ...]], meta_params: Tree, episode: Any
    ) -> tuple[Engine, Tree]:
        """Check that the meta-parameters fit the model and an `mltk.Episode`.

        Args:
            shapes: Dotted name and shape of every meta-parameter.
            meta_params: The meta-parameters.
            episode: The episode.

        Returns:
            The episode's engine, and the meta-parameters that training moves: without the constants of batch
            norms, which take the current sets.

        Raises:
            MltkError: If something does not fit.
        """
        check_values(episode)
        if self._axes is not None and episode.support_x.ndim - 2 not in self._axes:
            check_examples(self._model, "support_x", episode.support_x)
        check_params("meta_params", meta_params, shapes, episode.backend, beside="episode")
        if episode.ways is not None:
            self.check_ways(episode.ways, meta_params, episode.support_x)
        if self._constants:
            meta_params = tree.without(meta_params, self._constants)
        return episode.backend.engine, meta_params

    def check_ways(self, ways: int, params: Tree, x: Array) -> None:
        """Check that each class has an output: of a model that does not say how many, by applying it once."""
        width = getattr(self._model, "out_features", None)
        if width is None:
            features = tuple(x.shape[2:])
            if features not in self._widths:
                shape = self._model.apply(params, x).shape  # of images: (T, N, classes, *places)
                self._widths[features] = int(shape[min(2, len(shape) - 1)])
            width = self._widths[features]
        if width < ways:
            raise ShapeError(f"the model has {width} outputs; expected at least as many as ways, {ways}")


def check_examples(model: Model, name: str, x: Array, *, leading: int = 2) -> None:
    """Check that no layer of a model would take axes of its examples for tasks.

    Args:
        model: Any model.
        name: The name of the argument.
        x: Inputs ``(T, N, *features)``.
        leading: How many axes stand before the features.

    Raises:
        ShapeError: If a layer would.
    """
    axes = getattr(model, "example_axes", None)
    if axes is not None and x.ndim - leading not in axes:
        fault = model.misfit(x.ndim - leading)  # type: ignore[attr-defined]
        raise ShapeError(f"{name} has shape {tuple(x.shape)}, and {fault}")


def check_params(
    argument: str,
    params: Tree,
    shapes: Mapping[str, tuple[int, ...]],
    backend: Backend,
    *,
    tasks: tuple[int, ...] | None = None,
    beside: str | None = None,
) -> None:
    """Check a tree of parameters: complete, on the backend, each of its shape.

    Args:
        argument: The name of the argument that they came in.
        params: The tree; leaves that ``shapes`` does not name are only checked for their backend.
        shapes: Dotted name and shape of each parameter.
        backend: Where they must live.
        tasks: The extent of the task axis, ``(T,)``, that a parameter may have in front; ``None`` if none.
        beside: The argument whose data ``backend`` is that of; it does not fit if the parameters are in
            agreement among themselves.

    Raises:
        TreeError: If a parameter is missing or has another shape.
        ArrayError: If something is not an array.
        MismatchError: If an array is of another backend, device or dtype.
    """
    if not isinstance(params, dict):
        raise TreeError(f"{argument} is a {type(params).__name__}; expected a nested dict of arrays")
    flat = tree.flatten(params)
    if not all(map(backend.owns, flat.values())):
        _refuse(argument, flat.values(), backend, beside)
    for name, shape in shapes.items():
        if name not in flat:
            raise TreeError(f"{argument}: {name!r} is missing; expected an array of shape {shape}")
        found = tuple(flat[name].shape)
        if found != shape and (tasks is None or found != (*tasks, *shape)):
            expected = shape if tasks is None else f"{shape} or {(*tasks, *shape)}"
            raise TreeError(f"{argument}: {name!r} has shape {found}; expected {expected}")


def _refuse(argument: str, leaves: Collection[Array], backend: Backend, beside: str | None) -> None:
    """Raise for leaves that are not all of the backend, or for its data if all are of one other backend."""
    try:
        check_same(backend, **{argument: leaves})
    except MismatchError:
        if beside is None:
            raise
        try:
            own = common_backend(**{argument: leaves})
        except MltkError:
            own = None  # then it is the parameters that are at fault
        if own is None:
            raise
        found, expected = (f"{b.name} {b.dtype} on {b.device}" for b in (backend, own))
        raise MismatchError(
            f"{beside} holds an array of {found}; expected an array of {expected}, like {argument} "
            f"(asarray of a backend converts)"
        ) from None


def check_values(episode: Any, *, fetch_targets: bool = False) -> None:
    """`validate`, if that waits for no device and this episode has not passed before.

    Learners, training and evaluation do this first of all. Arrays that were changed after the episode has
    passed are not looked at again, but by `validate`.

    Args:
        episode: An `mltk.Episode`.
        fetch_targets: Whether to fetch labels or targets from a device, to check them alone.

    Raises:
        ArrayError: If it is no episode.
        NotFiniteError: As from `validate`.
        LabelError: As from `validate`.
    """
    passed = getattr(episode, "values_passed", None)
    if passed is None:
        raise ArrayError(f"episode is a {type(episode).__name__}; expected an mltk.Episode")
    if passed:
        return
    if episode.backend.device == "cpu":
        with contextlib.suppress(ArrayError):  # there are no values within a transform of torch.func
            validate(episode)
    elif fetch_targets:
        _check_targets(episode)


def validate(episode: Any) -> None:
    """Check all values of an `mltk.Episode`, which copies them to the host.

    Raises:
        NotFiniteError: If an array holds NaN or infinity.
        LabelError: If a label lies outside ``0..ways-1`` or a class has no support example.
    """
    for name in ("support_x", "query_x"):
        check_finite(episode.backend, name, getattr(episode, name))
    _check_targets(episode)
    object.__setattr__(episode, "values_passed", True)


def _check_targets(episode: Any) -> None:
    """Check the values of labels or targets alone."""
    backend, ways = episode.backend, episode.ways
    if ways is None:
        check_finite(backend, "support_y", episode.support_y)
        check_finite(backend, "query_y", episode.query_y)
    else:
        check_labels("query_y", backend.to_numpy(episode.query_y), ways)
        check_support_labels("support_y", backend.to_numpy(episode.support_y), ways)


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


def numbers(name: str, values: Any, *axes: str | int) -> np.ndarray:
    """Finite numbers in NumPy's double precision.

    Args:
        name: The argument that they came in.
        values: An array of the host, or lists.
        *axes: The name of each axis, or its extent.

    Raises:
        ArrayError: If they are no numbers.
        ShapeError: If they have other axes, or there are none.
        NotFiniteError: If one is NaN or infinite.
    """
    check_plain(name, values)
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise ArrayError(f"{name} is {values!r}; expected an array of numbers") from None
    fits = [isinstance(axis, str) or axis == size for axis, size in zip(axes, found.shape, strict=False)]
    if found.ndim != len(axes) or not all(fits) or not found.size:
        expected = ", ".join(map(str, axes)) + "," * (len(axes) == 1)
        raise ShapeError(f"{name} has shape {found.shape}; expected ({expected})")
    if not np.isfinite(found).all():
        raise NotFiniteError(f"{name} holds NaN or infinity; expected finite numbers")
    return found


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


def check_label_of_each(backend: Backend, name: str, labels: Array, x: Array) -> None:
    """Raise unless there is one integer for each vector."""
    if not backend.xp.isdtype(labels.dtype, "integral"):
        raise DtypeError(f"{name} has dtype {labels.dtype}; expected integer labels")
    if tuple(labels.shape) != tuple(x.shape[:2]):
        raise ShapeError(f"{name} has shape {tuple(labels.shape)}; expected {tuple(x.shape[:2])}")
