"""What is remembered of tasks, and the file that it is kept in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mltk import tree
from mltk.contracts import Backend
from mltk.errors import RunError
from mltk.files import replace_file
from mltk.npz import open_npz
from mltk.ops.kernels import kernels_of
from mltk.outside import reading
from mltk.toolkit.task_keys import agreement
from mltk.training.run_folder import check_shapes, to_arrays
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class Memory:
    """Remembered tasks, oldest first.

    Attributes:
        keys: What each is recognised by, ``(J, d)``.
        params: The parameters that were adapted to it, with a leading axis of ``J``.
    """

    keys: Array
    params: Tree

    @cached_property
    def likeness(self) -> Array:
        """How alike each is to the most similar of the others, ``(J,)``; -2 if there are none."""
        similarity, xp = agreement(self.keys, self.keys), kernels_of(self.keys).xp
        itself = xp.eye(similarity.shape[0], dtype=xp.bool, device=similarity.device)
        return xp.max(xp.where(itself, -2.0, similarity), axis=1)

    def finite(self, backend: Backend) -> Memory:
        """Those all of whose numbers are finite."""
        xp = kernels_of(self.keys).xp
        rows = [xp.reshape(leaf, (leaf.shape[0], -1)) for leaf in [self.keys, *tree.leaves(self.params)]]
        kept = np.logical_and.reduce([backend.to_numpy(xp.all(xp.isfinite(row), axis=-1)) for row in rows])
        numbers = xp.asarray(np.flatnonzero(kept), device=self.keys.device)
        chosen = tree.map(lambda leaf: xp.take(leaf, numbers, axis=0), {"": self.keys, "params": self.params})
        return Memory(chosen[""], chosen["params"])

    def behind(self, older: Memory | None, capacity: int) -> Memory:
        """These after older ones, of which the oldest are left out if there are too many."""
        xp = kernels_of(self.keys).xp

        def last(*parts: Array) -> Array:
            whole = xp.concat(list(parts), axis=0)
            return whole[max(0, whole.shape[0] - capacity) :]

        if older is None:
            return Memory(last(self.keys), tree.map(last, self.params))
        return Memory(last(older.keys, self.keys), tree.map(last, older.params, self.params))

    def write(self, path: Path, kind: str, backend: Backend) -> None:
        """Write an npz file, without pickle, in one go.

        Args:
            path: The file; its folder must exist.
            kind: What the keys are.
            backend: Of the arrays.

        Raises:
            RunError: If it cannot be written; a previous one is then intact.
        """
        held = to_arrays({"keys": self.keys, "params": self.params}, backend)
        arrays: dict[str, Any] = {"kind": np.asarray(kind), **held}
        replace_file(path, lambda file: np.savez(file, **arrays))


def read_memory(path: Path, kind: str, capacity: int, meta_params: Tree, backend: Backend) -> Memory:
    """What `Memory.write` has written.

    Args:
        path: The file.
        kind: What its keys must be.
        capacity: How many tasks it may hold.
        meta_params: Those of the learner, among whose leaves its parameters are.
        backend: Where the arrays go.

    Raises:
        RunError: If it is missing, damaged, or not such a memory.
    """
    with reading(path, RunError, damaged="is damaged or not a memory of tasks"):
        with open_npz(path, most_bytes=math.inf, most_ratio=1.0) as arrays:
            found = {name: arrays[name] for name in arrays.forms}
        told, keys = str(found.pop("kind")), found.pop("keys")
        if told != kind:
            raise RunError(f"{path} has keys by {told}; expected {kind}")
        if keys.ndim != 2 or not 0 < len(keys) <= capacity:
            raise RunError(f"{path} has keys of shape {keys.shape}; expected at most {capacity} tasks")
        params = {name.removeprefix("params."): leaf for name, leaf in found.items()}
        known = {n: (len(keys), *leaf.shape) for n, leaf in tree.flatten(meta_params).items() if n in params}
        check_shapes(params, known, path)
        for name, array in {"keys": keys, **params}.items():
            if array.dtype.kind != "f" or not np.isfinite(array).all():
                raise ValueError(f"{name} is {array.dtype}; expected finite numbers")
        if not params:
            raise ValueError("it holds no parameters")
    asarray = backend.asarray
    return Memory(asarray(keys), tree.unflatten({name: asarray(leaf) for name, leaf in params.items()}))
