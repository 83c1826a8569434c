"""Learned matrices along the axes of gradients."""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np

from mltk import tree
from mltk.ops.kernels import kernels_of
from mltk.optim.transforms.gradient_transform import GradientTransform, Shapes
from mltk.tree import Array, Tree

ALIKE = ""
"""The name of an axis whose slices are all multiplied alike."""

Unfoldings = dict[str, dict[str, Array]]
"""Per parameter and factor: what the factor was multiplied by."""


class ModeProducts(GradientTransform):
    r"""Gradients multiplied by learned square matrices along their axes, which start as identities.

    The unfolding $X_{(k)}$ of a tensor has its axis $k$ as rows and all others as columns. The mode product
    $Y = X \times_k M$ (Kolda & Bader 2009, section 2.5) is $Y_{(k)} = M X_{(k)}$, and so

    $$\bar X_{(k)} = M^\top \bar Y_{(k)}, \qquad \bar M = \bar Y_{(k)} X_{(k)}^\top.$$

    Products along different axes commute; the last axis comes first. A learned matrix is called like the
    parameter, with its own name behind.
    """

    @abstractmethod
    def axes(self, shape: tuple[int, ...]) -> dict[str, int]:
        """The axes of what a parameter of this shape is seen as: the name of each one's matrix, and its size.

        An axis called `ALIKE` has no matrix.
        """

    def shapes(self, network: Shapes) -> dict[str, tuple[int, ...]]:
        return {
            f"{name}.{factor}": (size, size)
            for name, shape in network.items()
            for factor, size in self.axes(tuple(shape)).items()
            if factor != ALIKE
        }

    def init(self, network: Shapes, rng: np.random.Generator) -> Tree:
        return tree.unflatten({name: np.eye(size) for name, (size, _) in self.shapes(network).items()})

    def forward(self, p: Tree, grads: Tree, state: Tree) -> tuple[Tree, Tree, Unfoldings]:
        matrices, directions = tree.flatten(p), {}
        unfoldings: Unfoldings = {}
        for name, g in tree.flatten(grads).items():
            axes = self.axes(g.shape[1:])
            d = kernels_of(g).xp.reshape(g, (g.shape[0], *axes.values()))
            unfoldings[name] = {}
            for factor, axis in reversed(_multiplied(axes)):
                unfoldings[name][factor] = unfolding = _unfold(d, axis)
                d = _fold(matrices[f"{name}.{factor}"] @ unfolding, axis, d.shape)
            directions[name] = kernels_of(g).xp.reshape(d, g.shape)
        return tree.unflatten(directions), {}, unfoldings

    def vjp(self, p: Tree, res: Unfoldings, g_directions: Tree, g_state: Tree) -> tuple[Tree, Tree, Tree]:
        matrices, g_matrices, g_grads = tree.flatten(p), {}, {}
        for name, g_direction in tree.flatten(g_directions).items():
            axes = self.axes(g_direction.shape[1:])
            reshape = kernels_of(g_direction).xp.reshape
            g = reshape(g_direction, (g_direction.shape[0], *axes.values()))
            for factor, axis in _multiplied(axes):
                unfolding = _unfold(g, axis)
                g_matrices[f"{name}.{factor}"] = unfolding @ res[name][factor].mT
                g = _fold(matrices[f"{name}.{factor}"].mT @ unfolding, axis, g.shape)
            g_grads[name] = reshape(g, g_direction.shape)
        return tree.unflatten(g_matrices), tree.unflatten(g_grads), {}


def _multiplied(axes: dict[str, int]) -> list[tuple[str, int]]:
    """The names of the matrices and the positions of their axes, after that of the tasks."""
    return [(factor, axis) for axis, factor in enumerate(axes, 1) if factor != ALIKE]


def _unfold(x: Array, axis: int) -> Array:
    """``(T, …, n, …)`` to ``(T, n, …)``."""
    xp = kernels_of(x).xp
    columns = math.prod(x.shape[1:axis]) * math.prod(x.shape[axis + 1 :])
    return xp.reshape(xp.moveaxis(x, axis, 1), (x.shape[0], x.shape[axis], columns))


def _fold(unfolding: Array, axis: int, shape: tuple[int, ...]) -> Array:
    """The inverse of `_unfold`, for a tensor of this shape."""
    xp = kernels_of(unfolding).xp
    moved = (shape[0], shape[axis], *shape[1:axis], *shape[axis + 1 :])
    return xp.moveaxis(xp.reshape(unfolding, moved), 1, axis)
