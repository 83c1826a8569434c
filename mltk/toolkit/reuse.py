"""Learned step sizes and transforms for another model, or other tasks: meta-parameters moved by their names.

Which of them can be moved depends on their shapes. What is learned coordinate by coordinate, or as one number
(the network of `mltk.optim.transforms.Network`, a `Scale` with ``per="scalar"``), fits any model; one number
a tensor fits every layer of the same name; one for each element (Meta-SGD), or a matrix, fits layers of the
same shape, and others its mean, where it is a step size. That it fits does not mean that it helps: step sizes
that were learned for a narrow model are too large for a wide one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from mltk import tree
from mltk.backend import backend_of
from mltk.errors import MismatchError, SettingError
from mltk.ops.kernels import kernels_of
from mltk.summary import Lines, Told
from mltk.tree import Tree


@dataclass(frozen=True, repr=False)
class Reused(Told):
    """Meta-parameters, some of which come from another learner.

    Attributes:
        meta_params: All of them.
        moved: The dotted names of those that were moved.
        averaged: Of those that have the mean of one of another shape.
        left: Of those that nothing was found for, and that stay as they were.
    """

    tells = ("moved", "averaged", "left")
    meta_params: Tree = field(repr=False)
    moved: tuple[str, ...]
    averaged: tuple[str, ...]
    left: tuple[str, ...]

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        told = {name: ", ".join(names) for name, names in self.to_dict().items()}
        return f"Reused: {len(self.moved)} arrays moved", [(n, t) for n, t in told.items() if t]


def reuse(meta_params: Tree, source: Tree, *, under: str | Collection[str], average: bool = False) -> Reused:
    """Meta-parameters with what another learner has learned, on other tasks or for another model.

    Args:
        meta_params: Those of the learner that is to have it, as from its ``init``.
        source: Those of the other learner, of any backend.
        under: The dotted names to be moved, or prefixes of them: the ``learned_key`` of both learners,
            ``"lr"`` or ``"transform"``.
        average: Where a name is in both and the shape is another, whether to fill it with the mean: for step
            sizes.

    Returns:
        The meta-parameters, with what was moved, and what was not.

    Raises:
        MismatchError: If nothing can be moved.
        SettingError: If ``under`` names nothing in ``meta_params``.

    Examples:
        >>> import mltk
        >>> be, rates = mltk.backend("numpy"), mltk.algorithms.MetaSGD
        >>> small, large = (rates(mltk.models.mlp([1, n, 1]), "mse") for n in (20, 40))
        >>> run = mltk.train(small, mltk.data.Sinusoid(shots=5, queries=5), backend=be, steps=10)
        >>> found = mltk.toolkit.reuse(large.init(be, 0), run.meta_params, under="lr", average=True)
        >>> found.moved, found.averaged
        (('lr.2.bias',), ('lr.0.weight', 'lr.0.bias', 'lr.2.weight'))
    """
    prefixes = [under] if isinstance(under, str) else list(under)
    own, other = tree.flatten(meta_params), tree.flatten(source)
    wanted = [name for name in own if any(f"{name}.".startswith(f"{prefix}.") for prefix in prefixes)]
    if not wanted:
        raise SettingError(f"under is {under!r}; expected names among {', '.join(own)}")
    backend, theirs = backend_of(meta_params), backend_of(source)
    moved, averaged = [], []
    for name in wanted:
        found = other.get(name)
        if found is None:
            continue
        if tuple(found.shape) == tuple(own[name].shape):
            own[name] = backend.asarray(theirs.to_numpy(found))
            moved.append(name)
        elif average:
            xp = kernels_of(own[name]).xp
            mean = float(theirs.to_numpy(kernels_of(found).xp.mean(found)))
            own[name] = xp.full_like(own[name], mean)
            averaged.append(name)
    if not moved and not averaged:
        raise MismatchError(f"source has nothing that fits {', '.join(wanted)}; it has {', '.join(other)}")
    left = tuple(name for name in wanted if name not in moved and name not in averaged)
    return Reused(tree.unflatten(own), tuple(moved), tuple(averaged), left)
