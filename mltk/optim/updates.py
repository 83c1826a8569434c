"""Gradient transformations: pure pairs of functions on trees, which compose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

from mltk import tree
from mltk.errors import TreeError
from mltk.ops.kernels import kernels_of
from mltk.tree import Array, Tree


class Transform(Protocol):
    """Turns gradients into updates, remembering what it needs in an explicit state.

    A state is a tree whose leaves are arrays or Python integers.
    """

    def init(self, params: Tree) -> Tree:
        """The state before the first step.

        Args:
            params: The parameters that will be optimised.
        """

    def update(self, grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
        """The updates to add to the parameters, and the next state; no argument is changed.

        Args:
            grads: A tree like ``params``.
            state: As from `init` or the previous `update`.
            params: The current parameters.

        Raises:
            TreeError: If ``grads`` lacks a leaf of ``params``.
        """


@dataclass(frozen=True)
class Chain:
    """Transformations applied one after the other; the state of the one at ``i`` stands under ``str(i)``.

    Attributes:
        transforms: The transformations, first to last.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> grads = {"w": np.asarray([3.0, 4.0])}
        >>> optimizer = mltk.optim.chain(mltk.optim.ClipByGlobalNorm(1.0), mltk.optim.SGD(0.1))
        >>> updates, state = optimizer.update(grads, optimizer.init(grads), grads)
        >>> [round(float(number), 3) for number in updates["w"]]
        [-0.06, -0.08]
    """

    transforms: tuple[Transform, ...]

    def init(self, params: Tree) -> Tree:
        """See `Transform.init`."""
        return {str(i): transform.init(params) for i, transform in enumerate(self.transforms)}

    def update(self, grads: Tree, state: Tree, params: Tree) -> tuple[Tree, Tree]:
        """See `Transform.update`."""
        states = {}
        for i, transform in enumerate(self.transforms):
            grads, states[str(i)] = transform.update(grads, state[str(i)], params)
        return grads, states


def chain(*transforms: Transform) -> Chain:
    """Compose transformations, first to last: ``chain(ClipByGlobalNorm(10.0), Adam(1e-3))``."""
    return Chain(transforms)


def apply_updates(params: Tree, updates: Tree) -> Tree:
    """The parameters after a step, ``params + updates``.

    Raises:
        TreeError: If ``updates`` lacks a leaf of ``params``.
    """
    return tree.map(_add, params, updates)


def _add(leaf: Array, update: Array) -> Array:
    total = leaf + update
    # NumPy's sum of two 0-d arrays is a scalar, which is no array.
    return total if total.ndim else kernels_of(leaf).as_array(total)


def ravel(values: Tree, like: Tree) -> Array:
    """The leaves of ``values`` in the order of ``like``, as one vector.

    Element-wise optimisers work on this vector: one long operation is faster than one for every leaf, by
    the overhead of a call on NumPy and of a kernel launch on a GPU.

    Raises:
        TreeError: If ``values`` lacks a leaf of ``like``, or that has none.
    """
    leaves = tree.leaves(tree.map(lambda _, value: value, like, values))
    if not leaves:
        raise TreeError("params is a tree without arrays; expected at least one that can be optimised")
    return kernels_of(leaves[0]).xp.concat(leaves, axis=None)


def unravel(vector: Array, like: Tree) -> Tree:
    """The inverse of `ravel`: a tree with the structure and shapes of ``like``."""
    reshape = kernels_of(vector).xp.reshape
    start = 0

    def cut(leaf: Any) -> Array:
        nonlocal start
        stop = start + math.prod(leaf.shape)
        part = reshape(vector[start:stop], leaf.shape)
        start = stop
        return part

    return tree.map(cut, like)
