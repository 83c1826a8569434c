"""Norms of gradients by layer, of any backend, waiting once for the device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mltk import tree
from mltk.backend import backend_of
from mltk.ops.kernels import kernels_of
from mltk.tree import Array


def named_arrays(grads: Any) -> dict[str, Array]:
    """The arrays of a gradient by their dotted names.

    Args:
        grads: A tree, a sequence of arrays, or a `torch.nn.Module` whose parameters have a ``grad``.
    """
    if isinstance(grads, Mapping):
        return tree.flatten(dict(grads))
    if hasattr(grads, "named_parameters"):
        return {name: p.grad for name, p in grads.named_parameters() if p.grad is not None}
    return {str(number): detached(grad) for number, grad in enumerate(grads) if grad is not None}


def layer_of(name: str) -> str:
    """The layer of a parameter: its dotted name without the last part."""
    return name.rpartition(".")[0] or name


def detached(array: Any) -> Any:
    """The values alone, of a tensor or a linked array; numbers as they are."""
    return array.detach() if hasattr(array, "detach") else array


def square_sum(array: Array) -> Array:
    """The sum of the squares, 0-d, where the array is."""
    xp = kernels_of(array).xp
    flat = xp.reshape(array, (-1,))
    return xp.vecdot(flat, flat)


def by_layer(named: Mapping[str, Array], squares: Sequence[float]) -> dict[str, float]:
    """The norm of each layer, from the squares of its parameters: zero only if all of it is exactly zero."""
    found: dict[str, float] = {}
    for (name, leaf), square in zip(named.items(), squares, strict=True):
        if square == 0 and fetch([kernels_of(leaf).xp.any(leaf != 0)])[0]:  # too small for its square
            square = math.ulp(0.0)
        found[layer_of(name)] = found.get(layer_of(name), 0.0) + square
    return {layer: math.sqrt(square) for layer, square in found.items()}


def fetch(values: Sequence[Any]) -> list[float]:
    """Numbers and 0-d arrays as numbers."""
    arrays = [value for value in values if not isinstance(value, float | int | np.ndarray | np.generic)]
    if len({array.dtype for array in arrays}) != 1:
        return [float(value) for value in values]
    backend = backend_of(arrays[0])
    fetched = iter(backend.to_numpy(backend.xp.stack(arrays)).tolist())
    known = {id(array): number for array, number in zip(arrays, fetched, strict=True)}
    return [known[id(value)] if id(value) in known else float(value) for value in values]


def dtype_of(named: Mapping[str, Array]) -> str:
    """The floating dtype of arrays, as NumPy calls it; float32 if they have none."""
    found = {str(array.dtype).rpartition(".")[2] for array in named.values()}
    return found.pop() if len(found) == 1 and found <= {"float16", "float32", "float64"} else "float32"
