"""What learners do with trees of parameters: check them, and average them over tasks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from mltk import tree
from mltk.backend import check_same, common_backend
from mltk.contracts import Backend
from mltk.errors import MismatchError, MltkError, TreeError
from mltk.ops.kernels import kernels_of
from mltk.tree import Array, Tree


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
    try:
        check_same(backend, **{argument: flat.values()})
    except MismatchError:
        if beside is not None:
            _blame(beside, backend, argument, flat.values())
        raise
    for name, shape in shapes.items():
        if name not in flat:
            raise TreeError(f"{argument}: {name!r} is missing; expected an array of shape {shape}")
        found = tuple(flat[name].shape)
        if found != shape and (tasks is None or found != (*tasks, *shape)):
            expected = shape if tasks is None else f"{shape} or {(*tasks, *shape)}"
            raise TreeError(f"{argument}: {name!r} has shape {found}; expected {expected}")


def free_key(key: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """A key beside parameters: the one that is wanted, with underscores if it is one of theirs."""
    taken = {name.partition(".")[0] for name in shapes}
    while key in taken:
        key += "_"
    return key


def split(params: Tree, key: str) -> tuple[Tree, Any]:
    """What stands beside a key, and what stands under it: an empty tree if there is nothing."""
    return {name: value for name, value in params.items() if name != key}, params.get(key, {})


def _blame(data: str, backend: Backend, argument: str, leaves: Collection[Array]) -> None:
    """Raise `MismatchError` for data that differ from parameters which are all of one other backend."""
    try:
        own = common_backend(**{argument: leaves})
    except MltkError:
        return  # then it is the parameters that are at fault
    found, expected = (f"{b.name} {b.dtype} on {b.device}" for b in (backend, own))
    raise MismatchError(
        f"{data} holds an array of {found}; expected an array of {expected}, like {argument} "
        f"(asarray of a backend converts)"
    )


def mean_over_tasks(leaf: Array) -> Array:
    """The mean over the leading axis, the tasks."""
    return kernels_of(leaf).sum(leaf, (0,)) / leaf.shape[0]


def per_task(numbers: Array, leaf: Array) -> Array:
    """Numbers ``(T,)`` in a shape that multiplies a leaf with a leading task axis."""
    return kernels_of(numbers).xp.reshape(numbers, (-1, *[1] * (leaf.ndim - 1)))
