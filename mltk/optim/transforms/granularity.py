"""Learned numbers of three granularities: one for every element, one for each tensor, or a single one."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from mltk import tree
from mltk.ops.kernels import kernels_of
from mltk.optim.transforms.gradient_transform import Shapes
from mltk.tree import Array, Tree

Granularity = Literal["element", "tensor", "scalar"]


def learned_shapes(per: Granularity, network: Shapes, single: str) -> dict[str, tuple[int, ...]]:
    """The learned arrays: named like the parameters or, if there is a single number, ``single``."""
    if per == "scalar":
        return {single: ()}
    return {name: tuple(shape) if per == "element" else () for name, shape in network.items()}


def draw(shapes: dict[str, tuple[int, ...]], low: float, high: float, rng: np.random.Generator) -> Tree:
    """Uniform numbers in float64."""
    return tree.unflatten({name: np.asarray(rng.uniform(low, high, shape)) for name, shape in shapes.items()})


def spread(per: Granularity, p: Tree, single: str, like: Tree) -> Tree:
    """For each leaf of ``like`` the learned array that it meets, in a shape that broadcasts to it."""
    if per == "element":
        return p
    if per == "scalar":
        return tree.map(lambda leaf: along_tasks(p[single], leaf), like)
    return tree.map(lambda leaf, number: along_tasks(number, leaf), like, p)


def sums_of_products(per: Granularity, xs: Tree, ys: Tree, single: str) -> Tree:
    r"""The cotangents of learned numbers $c$ that enter as $y = c x$, per task: $\sum x \bar y$."""
    if per == "element":
        return tree.map(lambda x, y: x * y, xs, ys)
    sums = tree.map(sum_of_product, xs, ys)
    if per == "tensor":
        return sums
    first, *rest = tree.leaves(sums)
    return {single: sum(rest, start=first)}


def sum_of_product(x: Array, y: Array) -> Array:
    """The inner product of two arrays ``(T, *shape)`` for each task, ``(T,)``."""
    tasks, size = x.shape[0], math.prod(x.shape[1:])
    reshape = kernels_of(x).xp.reshape
    return kernels_of(x).sum(reshape(x, (tasks, size)), (1,), times=reshape(y, (tasks, size)))


def along_tasks(number: Array, leaf: Array) -> Array:
    """A number shared by the tasks, or one for each, in a shape that broadcasts to ``leaf``."""
    if number.ndim == 0:
        return number
    return kernels_of(number).xp.reshape(number, (-1,) + (1,) * (leaf.ndim - 1))


def inner_product(xs: Tree, ys: Tree) -> Array:
    """The inner product of two trees for each task, ``(T,)``."""
    first, *rest = tree.leaves(tree.map(sum_of_product, xs, ys))
    return sum(rest, start=first)
