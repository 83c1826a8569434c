"""A learned term beside the gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mltk import tree
from mltk.optim.transforms.gradient_transform import GradientTransform, Shapes
from mltk.optim.transforms.granularity import draw, learned_shapes
from mltk.tree import Tree


@dataclass(frozen=True)
class Bias(GradientTransform):
    r"""Gradients plus learned numbers, one for every element, which start at 0.

    $$d = g + b, \qquad \bar g = \bar d, \qquad \bar b = \bar d.$$

    The learned arrays have the names of the parameters. Such a term moves all tasks alike, whatever their
    gradients.

    Examples:
        >>> import mltk
        >>> transform = mltk.optim.transforms.Bias()
        >>> sorted(transform.shapes({"w": (3, 2)}).items())
        [('w', (3, 2))]
    """

    def shapes(self, network: Shapes) -> dict[str, tuple[int, ...]]:
        return learned_shapes("element", network, "")

    def init(self, network: Shapes, rng: np.random.Generator) -> Tree:
        return draw(self.shapes(network), 0.0, 0.0, rng)

    def forward(self, p: Tree, grads: Tree, state: Tree) -> tuple[Tree, Tree, None]:
        return tree.map(lambda g, b: g + b, grads, p), {}, None

    def vjp(self, p: Tree, res: None, g_directions: Tree, g_state: Tree) -> tuple[Tree, Tree, Tree]:
        return g_directions, g_directions, {}
