r"""How well adaptation would do on support examples that it has not seen.

The examples of a task go into folds; each fold is predicted by what is adapted to all others. Examples of a
class are spread over the folds one by one, so that none takes the last of its class along: with one shot
there are no folds, and nothing is known before the queries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mltk.backend import backend_of
from mltk.contracts import Learner
from mltk.errors import ShapeError
from mltk.ops.kernels import kernels_of
from mltk.ops.loss import Loss
from mltk.ops.named_losses import loss as named_loss
from mltk.tree import Array

Adapt = Callable[[Array, Array], Any]
"""From support sets to what a learner has learned of them."""


def support_folds(y: Array, most: int) -> np.ndarray | None:
    """The fold of each support example.

    Args:
        y: Labels ``(T, N)``, or targets with more axes, whose values are not asked for.
        most: At most so many folds; with as many as examples, or examples of the rarest class, each fold has
            one of them: leave one out.

    Returns:
        Integers ``(T, N)`` from 0, equally many of each in all tasks; ``None`` if there is a class with one
        example, or a task.

    Raises:
        ShapeError: If tasks have differently many examples of their classes, so that folds differ in size.
    """
    tasks, examples = y.shape[:2]
    if not (y.ndim == 2 and kernels_of(y).xp.isdtype(y.dtype, "integral")):
        folds = np.tile(np.arange(examples) % most, (tasks, 1))
        return folds if examples > 1 else None
    labels = backend_of(y).to_numpy(y)
    member = labels[..., None] == np.arange(labels.max() + 1)
    counts = member.sum(1)
    most = min(most, int(counts[counts > 0].min()))
    if most < 2:
        return None
    rank = np.take_along_axis(np.cumsum(member, axis=1) - 1, labels[..., None], axis=2)[..., 0]
    folds = rank % most
    sizes = (folds[..., None] == np.arange(most)).sum(1)
    if (sizes != sizes[0]).any():
        raise ShapeError(
            "support_y has differently many examples of its classes in different tasks, whose folds "
            "cannot be adapted to at once; expected equally many, or caution=None"
        )
    return folds


def held_out_losses(learner: Learner, adapt: Adapt, x: Array, y: Array, folds: np.ndarray) -> Array:
    """The loss of each support example by what is adapted to the other folds.

    Args:
        learner: Predicts; the loss is that of its ``objective``, or without one cross-entropy or mean squared
            error.
        adapt: Its adaptation; it is asked anew for each fold, and sees nothing of it.
        x: Support inputs ``(T, N, *features)``.
        y: Their targets.
        folds: As from `support_folds`.

    Returns:
        ``(T, N)``, fold by fold.
    """
    xp = kernels_of(x).xp
    objective = getattr(learner, "objective", None)
    kind = "cross_entropy" if xp.isdtype(y.dtype, "integral") else "mse"
    loss: Loss = named_loss(kind) if objective is None else objective.loss
    found = []
    for fold in range(int(folds.max()) + 1):
        rest, held = (rows_of(mask) for mask in (folds != fold, folds == fold))
        state = adapt(taken(x, rest), taken(y, rest))
        outputs, target = learner.predict(state, taken(x, held)), taken(y, held)
        each, wanted = (xp.reshape(a, (-1, 1, *a.shape[2:])) for a in (outputs, target))
        values, _ = loss.forward({"target": wanted}, each)
        found.append(xp.reshape(values, held.shape))
    return xp.concat(found, axis=1)


def rows_of(mask: np.ndarray) -> np.ndarray:
    """Where a mask ``(T, N)`` with equally many in each row is true, ``(T, n)``."""
    return np.nonzero(mask)[1].reshape(len(mask), -1)


def taken(x: Array, rows: np.ndarray) -> Array:
    """Examples of each task, ``(T, n, ...)`` of ``(T, N, ...)``."""
    xp, (tasks, examples) = kernels_of(x).xp, x.shape[:2]
    numbers = xp.asarray((rows + examples * np.arange(tasks)[:, None]).ravel(), device=x.device)
    flat = xp.take(xp.reshape(x, (tasks * examples, *x.shape[2:])), numbers, axis=0)
    return xp.reshape(flat, (*rows.shape, *x.shape[2:]))
