"""Tasks that are held out share no class with those that are learned from, as far as that can be had."""

from __future__ import annotations

import math

import numpy as np

HELD_OUT = 200
"""So many tasks are held out at least, where there are as many."""

LOOKS = 20
"""Folds that are looked at to see how many tasks they leave."""

Folds = list[tuple[np.ndarray, np.ndarray]]
"""Of each fold the tasks to learn from and those that are held out."""


def folds_apart(units: np.ndarray | None, tasks: int, folds: int, seed: int) -> tuple[Folds, bool]:
    """Folds of tasks that share no unit, a class or a group, with the tasks that are learned from.

    Tasks that touch each other, directly or by way of others, are held out together where there are several
    such sets. Where most tasks touch, each fold holds out fewer, so that at least half of the tasks are left
    without their units; where even one task leaves fewer, tasks are held out whatever they share.

    Args:
        units: The classes or groups of each task, integers ``(T, ways)``, -1 for none; ``None`` if unknown.
        tasks: How many tasks.
        folds: How many folds at least.
        seed: Of the order of the tasks.

    Returns:
        The folds, and whether they are apart; tasks of unknown units are not.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(tasks)
    if units is not None and tasks >= folds:
        touches = (units[:, :, None] == np.unique(units[units >= 0])).any(axis=1)
        sets = rng.permutation(tasks)[_connected(touches)]
        order = order[np.argsort(sets[order], kind="stable")]
        count = folds
        while count <= tasks:
            parts = np.array_split(order, count)
            parts = [parts[place] for place in rng.permutation(count)]
            left = [_without(touches, part) for part in parts[:LOOKS]]
            if np.median([each.size for each in left]) >= tasks / 2:
                enough = parts[: max(folds, math.ceil(HELD_OUT * count / tasks))]
                found = [(_without(touches, part), part) for part in enough]
                return [(rest, part) for rest, part in found if rest.size], True
            count *= 2
    return [(np.setdiff1d(order, part), part) for part in np.array_split(order, min(folds, tasks))], False


def _without(touches: np.ndarray, part: np.ndarray) -> np.ndarray:
    """The tasks that touch none of the units of a part of them."""
    return np.flatnonzero(~touches[:, touches[part].any(axis=0)].any(axis=1))


def _connected(touches: np.ndarray) -> np.ndarray:
    """The number of the set of tasks that each is in, ``(T,)``."""
    from scipy.sparse import bmat, csr_matrix
    from scipy.sparse.csgraph import connected_components

    edges = csr_matrix(touches)
    _, found = connected_components(bmat([[None, edges], [edges.T, None]]), directed=False)
    return np.asarray(found[: len(touches)])
