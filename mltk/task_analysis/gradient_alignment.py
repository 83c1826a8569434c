r"""Whether a step on some examples helps others: the cosine of the gradients of their losses.

A step $-\eta \nabla L_a$ changes the loss of $b$ by $-\eta \langle \nabla L_a, \nabla L_b \rangle$, to first
order; this is what Reptile and MAML raise between the parts of a task (Nichol, Achiam & Schulman 2018,
section 5.1), and by what tasks are told to help or to hinder each other (Fifty et al. 2021).
"""

from __future__ import annotations

from typing import NamedTuple

from mltk import tree
from mltk.backend import common_backend
from mltk.episode import check_inputs
from mltk.errors import TreeError
from mltk.heads.similarity import normalize
from mltk.ops.kernels import kernels_of
from mltk.tree import Array, Tree


class Alignment(NamedTuple):
    """Cosines between gradients; zero where one of them is zero.

    Attributes:
        within: Between the support and the query loss of each task, ``(T,)``.
        between: Between the support losses of all pairs of tasks, ``(T, T)``.
    """

    within: Array
    between: Array


def gradient_alignment(support: Tree, query: Tree) -> Alignment:
    """The alignment of gradients within and between tasks, see `mltk.task_analysis.gradient_alignment`.

    Args:
        support: The gradient of each task's support loss at the same parameters: a tree of leaves with a task
            axis, such as the ``grad`` of ``engine.linearize`` (`mltk.contracts.Engine`).
        query: That of its query loss.

    Raises:
        TreeError: If they are no trees with leaves of the same names and shapes, all of as many tasks.
        MltkError: If they hold something else than arrays of one backend.

    Examples:
        >>> import mltk
        >>> from mltk.contracts import Objective
        >>> backend, model = mltk.backend("numpy"), mltk.models.mlp([1, 10, 1])
        >>> episode = mltk.data.Sinusoid(shots=5, queries=5).sample(3, 0, backend)
        >>> params, objective = model.init(backend, 0), Objective(model, mltk.ops.loss("mse"))
        >>> sets = [(episode.support_x, episode.support_y), (episode.query_x, episode.query_y)]
        >>> gradients = [backend.engine.linearize(objective, params, x, y).grad for x, y in sets]
        >>> alignment = mltk.task_analysis.gradient_alignment(*gradients)
        >>> alignment.within.shape, alignment.between.shape
        ((3,), (3, 3))
    """
    shapes = [_shapes(name, gradient) for name, gradient in (("support", support), ("query", query))]
    if shapes[0] != shapes[1]:
        raise TreeError(f"query has leaves {shapes[1]}; expected {shapes[0]} as support")
    backend = common_backend(support=tree.leaves(support), query=tree.leaves(query))
    rows = {"support": flattened(support), "query": flattened(query)}
    for name, each in rows.items():
        check_inputs(backend, name, each[None])
    a, b = (normalize(each).unit for each in rows.values())
    return Alignment(kernels_of(a).sum(a, (-1,), times=b), a @ a.mT)


def _shapes(name: str, gradient: Tree) -> dict[str, tuple[int, ...]]:
    """The shape of each leaf; they are checked to have one task axis."""
    found = {}
    if isinstance(gradient, dict):
        found = {key: tuple(getattr(leaf, "shape", ())) for key, leaf in tree.flatten(gradient).items()}
    if len({shape[:1] for shape in found.values()} - {(0,)}) != 1 or () in found.values():
        raise TreeError(f"{name} has leaves {found}; expected a tree of arrays (T, ...) of as many tasks")
    return found


def flattened(gradient: Tree) -> Array:
    """The leaves ``(T, …)`` of a tree as one row ``(T, P)`` a task."""
    leaves = tree.leaves(gradient)
    xp = kernels_of(leaves[0]).xp
    return xp.concat([xp.reshape(leaf, (leaf.shape[0], -1)) for leaf in leaves], axis=-1)
