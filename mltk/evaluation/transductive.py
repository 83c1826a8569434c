"""Whether predictions are transductive: found out by experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mltk.backend import Backend
from mltk.tree import Array, Tree

if TYPE_CHECKING:
    from mltk.training_loop import Algorithm

ROUNDING = 100
"""Multiples of the machine precision, times the largest output of a task, that count as no change."""

MAGNIFIED = 1000.0
"""What the other queries are multiplied by: a weak influence grows with them."""


def is_transductive(
    algorithm: Algorithm,
    meta_params: Tree,
    support_x: Array,
    support_y: Array,
    query_x: Array,
    *,
    backend: Backend,
) -> bool:
    """Whether the prediction for a query depends on which other queries it is predicted with.

    The first query, and then the last, stays where it is while all others change: to its own copies, and to
    themselves a thousand times as large and with the other sign. Shapes stay the same, so rounding does, too,
    and the prediction for it must be the same up to 100 times the machine precision and to ten times what two
    equal calls differ by (as with dropout).

    Args:
        algorithm: A meta-learner; only ``adapt`` and ``predict`` are used.
        meta_params: Its meta-parameters.
        support_x: Support inputs ``(T, N, *features)``; a few tasks are enough.
        support_y: Their targets.
        query_x: Query inputs ``(T, M, *features)``; a single query has no others to depend on.
        backend: The backend of the arrays.
    """
    state = algorithm.adapt(meta_params, support_x, support_y)

    def predicted(x: Array) -> np.ndarray:
        return backend.to_numpy(algorithm.predict(state, x)).astype(np.float64)

    queries = query_x.shape[1]
    usual, again = predicted(query_x), predicted(query_x)
    scale = np.abs(usual).reshape(len(usual), -1).max(axis=1)
    tolerance = ROUNDING * np.finfo(backend.dtype).eps * scale + 10 * np.abs(again - usual).max()
    for kept in (0, queries - 1):
        same = query_x[:, kept : kept + 1]
        copies = backend.xp.concat([same] * queries, axis=1)
        others = -MAGNIFIED * query_x
        magnified = backend.xp.concat([others[:, :kept], same, others[:, kept + 1 :]], axis=1)
        for x in (copies, magnified):
            # The other queries may overflow; that they leave this one alone is the question.
            with np.errstate(all="ignore"):
                change = np.abs(predicted(x)[:, kept] - usual[:, kept])
            within = change <= tolerance.reshape(-1, *[1] * (change.ndim - 1))
            if not within.all():  # NaN is not within
                return True
    return False
