"""The contract of a learnable transform: a map from gradients to directions, and its pullback by hand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import numpy as np

from mltk.ops.operation import Residuals
from mltk.tree import Array, Tree

Shapes = Mapping[str, tuple[int, ...]]
"""Dotted name and shape of each parameter."""

Guard = Callable[[Array, Array, Callable[[Array], Array]], Array]
"""From the loss of each task ``(T,)``, the inner product of its gradient with the step, and the loss behind
any parts ``(T,)`` of the step, to the parts that are taken."""


class GradientTransform(ABC):
    r"""A learnable map $d, s' = f(p, g, s)$ from gradients and a state to directions and the next state.

    The inner step is $\theta \leftarrow \theta - \alpha d$. Gradients, directions and the leaves of a state
    have one leading axis, the tasks. Learned arrays have either their own shape, and are then shared by all
    tasks, or the task axis before it. Cotangents of learned arrays always carry the task axis.

    No function changes its arguments in place, and each works on Torch tensors that autograd follows.
    """

    @property
    def guard(self) -> Guard | None:
        """What shortens steps along the directions; ``None`` if nothing does."""
        return None

    def shapes(self, network: Shapes) -> dict[str, tuple[int, ...]]:
        """The learned arrays for a network whose adapted parameters have these names and shapes; none yet."""
        return {}

    def init(self, network: Shapes, rng: np.random.Generator) -> Tree:
        """Draw the learned arrays, those of `shapes`, in float64."""
        return {}

    def start(self, params: Tree) -> Tree:
        """The state before the first inner step; empty if there is nothing to remember.

        Args:
            params: Arrays of the shapes that the gradients will have.
        """
        return {}

    @abstractmethod
    def forward(self, p: Tree, grads: Tree, state: Tree) -> tuple[Tree, Tree, Residuals]:
        """The directions, a tree like ``grads``, the next state, and what the pullback needs."""

    @abstractmethod
    def vjp(self, p: Tree, res: Residuals, g_directions: Tree, g_state: Tree) -> tuple[Tree, Tree, Tree]:
        """The cotangents of ``p``, ``grads`` and ``state`` from those of directions and next state."""
