"""Derivatives by the complex step: exact to rounding for whatever has a formula, however wrong it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

STEP = 1e-30
"""So small that its square vanishes beside one."""

Leaves = Mapping[str, np.ndarray]


class Deferred(dict[str, Any]):
    """Outputs of which some are computed when they are asked for."""

    def __getitem__(self, name: str) -> Any:
        """What is asked for."""
        value = super().__getitem__(name)
        if callable(value):
            value = self[name] = value()
        return value

    def items(self) -> Any:
        """All of them."""
        return [(name, self[name]) for name in self]


Function = Callable[[dict[str, np.ndarray]], tuple[dict[str, np.ndarray], np.ndarray]]
"""From complex arrays with a leading axis of copies to outputs and one number for each copy.

It is holomorphic: it takes no absolute value, no maximum and no conjugate. The real part of an array is a
constant, through which no gradient goes.
"""


def values(function: Function, leaves: Leaves) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Outputs and number of a function."""
    outputs, number = function({name: leaf.astype(complex)[None] for name, leaf in leaves.items()})
    return {name: array[0].real for name, array in outputs.items()}, number[0].real


def gradients_of(function: Function, leaves: Leaves) -> dict[str, np.ndarray]:
    r"""The gradient of the number of a function.

    There is a copy of the leaves for each number in them, to which an imaginary step is added (Squire & Trapp
    1998): $\partial f / \partial x = \operatorname{Im} f(x + i h) / h$.

    Args:
        function: Of the leaves.
        leaves: Real arrays.
    """
    copies = sum(leaf.size for leaf in leaves.values())
    moved, first, own = {}, 0, {}
    for name, leaf in leaves.items():
        moved[name] = np.broadcast_to(leaf.astype(complex), (copies, *leaf.shape)).copy()
        own[name] = slice(first, first + leaf.size)
        np.einsum("ii->i", moved[name].reshape(copies, -1)[own[name]])[:] += 1j * STEP
        first += leaf.size
    _, number = function(moved)
    return {name: (number[own[name]].imag / STEP).reshape(leaf.shape) for name, leaf in leaves.items()}
