"""The contract of an operation: its value and three derivatives, side by side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from mltk.errors import ShapeError
from mltk.tree import Array, Tree

Residuals = Any
"""Whatever `Operation.forward` keeps for the derivatives."""

Pulled = tuple[Tree, Array | None]
"""The cotangents of the parameters and of the input; ``None`` for the latter where it is not wanted."""


class Tangent(NamedTuple):
    r"""How what `Operation.vjp` depends on moves: $(\dot p, \dot x, \dot{\bar y})$.

    Attributes:
        p: That of the parameters.
        x: That of the input; ``None`` if it is zero by structure.
        gy: That of the cotangent of the output; ``None`` for a loss whose own cotangent is constant.
    """

    p: Tree
    x: Array | None
    gy: Array


class Operation(ABC):
    r"""A function $y = f(p, x)$ of parameters and an input, with hand-derived derivatives.

    Leading axes are batch axes: inputs have shape ``(..., N, *features)``, where the axes before the
    examples ``N`` (in practice one, the tasks) are carried along. Parameters have either their own shape,
    and are then shared by all tasks, or the same leading axes as the input. Cotangents of parameters always
    carry the leading axes.

    ``dx=None`` stands for a tangent that is zero by structure, and ``wrt_input=False`` says that the
    cotangent of the input is not needed (it is then returned as ``None``): the first layer with parameters
    skips both. Operations without parameters are never asked either way: they have nothing else to give.

    No function changes its arguments in place.
    """

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The names and shapes of the parameters; empty if there are none."""
        return {}

    @property
    def constant_shapes(self) -> dict[str, tuple[int, ...]]:
        """The names and shapes of constants that may stand beside the parameters: they get no cotangent."""
        return {}

    @property
    def example_axes(self) -> int | None:
        """How many axes an example of the input has, if the operation takes further ones for tasks."""
        return None

    @property
    def output_axes(self) -> int | None:
        """How many axes an example of the output has; ``None`` for those of the input."""
        return None

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw initial parameters in float64."""
        return {}

    @abstractmethod
    def forward(self, p: Tree, x: Array) -> tuple[Array, Residuals]:
        """The value ``y`` and the residuals that the derivatives need."""

    @abstractmethod
    def jvp(self, p: Tree, res: Residuals, dp: Tree, dx: Array | None) -> Array:
        """The tangent of ``y`` along ``(dp, dx)``."""

    @abstractmethod
    def vjp(self, p: Tree, res: Residuals, gy: Array, *, wrt_input: bool = True) -> Pulled:
        """The cotangents ``(gp, gx)`` that the cotangent ``gy`` of ``y`` pulls back to."""

    @abstractmethod
    def jvp_of_vjp(self, p: Tree, res: Residuals, gy: Array, d: Tangent, *, wrt_input: bool = True) -> Pulled:
        """The tangent of `vjp` along ``d``: Pearlmutter's R-operator (1994)."""


def unfit(operation: Operation, x: Array, *features: int | str) -> ShapeError:
    """The error for an input that is not ``(..., N, *features)``, where a letter stands for any extent."""
    return ShapeError(
        f"the input of {type(operation).__name__} has shape {tuple(x.shape)}; "
        f"expected (..., N, {', '.join(str(extent) for extent in features)})"
    )
