"""Whether predictions are transductive: found out by experiment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mltk.contracts import Backend
from mltk.episode import Episode
from mltk.tree import Array, Tree

if TYPE_CHECKING:
    from mltk.contracts import Learner

ROUNDING = 100
"""Multiples of the machine precision, times the largest output of a task, that count as no change."""

MAGNIFIED = -1000.0
"""What the other queries are multiplied by: a weak influence grows with them."""

FEW = 2
"""Tasks on which an evaluation finds out whether predictions are transductive."""

REPEATS = 4
"""How often a change makes us look again at how much equal calls differ."""


def is_transductive(
    algorithm: Learner,
    meta_params: Tree,
    support_x: Array,
    support_y: Array,
    query_x: Array,
    *,
    backend: Backend,
) -> bool | None:
    """Whether the prediction for a query depends on which other queries it is predicted with.

    The first query of a task, and then the last, stays where it is while all others change to rows that the
    data holds: to its own copies, to each other's places, and to the queries of another task (to the support
    inputs if there is none). Shapes stay the same, so rounding does, too, and the prediction for it must be
    the same up to 100 times the machine precision and to ten times what equal calls differ by (as with
    dropout).

    So that a weak influence shows, the others are also multiplied by -1000, where that is harmless: inputs
    must be floating and on the host, where a model that refuses such values raises an error and breaks
    nothing, and features that only ever are whole numbers, which may be ids, stay as they are.

    Args:
        algorithm: A meta-learner; only ``adapt`` and ``predict`` are used.
        meta_params: Its meta-parameters.
        support_x: Support inputs ``(T, N, *features)``; two tasks are enough. They are tried one by one.
        support_y: Their targets.
        query_x: Query inputs ``(T, M, *features)``; a single query has no others to depend on.
        backend: The backend of the arrays.

    Returns:
        ``None`` if no influence was found, but the learner raised an error for rows that the data holds.
    """
    tasks, queries = query_x.shape[:2]
    unknown = False
    for task in range(tasks if queries > 1 else 0):
        here = slice(task, task + 1)
        strange = support_x[here] if tasks == 1 else query_x[(task + 1) % tasks][None]
        enlarged = _enlarged(support_x, query_x, here, backend)
        state = algorithm.adapt(meta_params, support_x[here], support_y[here])
        trial = _Trial(algorithm, state, query_x[here], backend)
        for kept in (0, queries - 1):
            for others in (*_rearranged(query_x[here], kept, backend), _as_many(strange, queries, backend)):
                influence = trial.influence(kept, others)
                unknown |= influence is None
                if influence:
                    return True
            if enlarged is not None and trial.influence(kept, enlarged):
                return True
    return None if unknown else False


def of_first_tasks(
    algorithm: Learner, meta_params: Tree, episode: Episode, *, backend: Backend
) -> bool | None:
    """Whether predictions for the first two tasks are transductive, after they have been judged.

    A learner that cannot do one of them alone loses only this answer, which is then ``None``.
    """
    few = (array[:FEW] for array in (episode.support_x, episode.support_y, episode.query_x))
    try:
        return is_transductive(algorithm, meta_params, *few, backend=backend)
    except Exception:
        return None


class _Trial:
    """One task that a learner has adapted to, and its usual predictions."""

    def __init__(self, algorithm: Learner, state: Any, query_x: Array, backend: Backend) -> None:
        self.algorithm, self.state, self.query_x, self.backend = algorithm, state, query_x, backend
        self.usual = self.predicted(query_x)
        self.noise = 0.0
        self.compare()

    def predicted(self, x: Array) -> np.ndarray:
        """The outputs for the queries of the task, ``(M, o)``."""
        outputs: np.ndarray = self.backend.to_numpy(self.algorithm.predict(self.state, x))[0]
        return outputs.astype(np.float64)

    def compare(self) -> None:
        """Predict as usual once more, and remember by how much equal calls differ."""
        self.noise = max(self.noise, float(np.abs(self.predicted(self.query_x) - self.usual).max()))

    def influence(self, kept: int, others: Array) -> bool | None:
        """Whether the prediction for the kept query changes with the others; ``None`` if it raises.

        Args:
            kept: Its place.
            others: What stands in the other places, ``(1, M, *features)``.
        """
        concat = self.backend.xp.concat
        x = concat([others[:, :kept], self.query_x[:, kept : kept + 1], others[:, kept + 1 :]], axis=1)
        try:
            # The other queries may overflow; that they leave this one alone is the question.
            with np.errstate(all="ignore"):
                change = np.abs(self.predicted(x)[kept] - self.usual[kept])
            for _ in range(REPEATS):
                if self.is_noise(change):
                    return False
                self.compare()
        # What a learner raises for a question that it is never asked in earnest is no fault of it.
        except Exception:
            return None
        return not self.is_noise(change)

    def is_noise(self, change: np.ndarray) -> bool:
        """Whether rounding or what equal calls differ by explains a change; NaN is never explained."""
        rounding = ROUNDING * np.finfo(self.backend.dtype).eps * np.abs(self.usual).max()
        return bool((change <= rounding + 10 * self.noise).all())


def _rearranged(query_x: Array, kept: int, backend: Backend) -> Iterator[Array]:
    """The queries of a task ``(1, M, *features)`` as copies of one, and in another order."""
    queries = query_x.shape[1]
    yield backend.xp.concat([query_x[:, kept : kept + 1]] * queries, axis=1)
    # Each other query moves on by one place, and none of them comes to stand where the kept one does.
    order = [place for place in range(queries) if place != kept]
    moved = dict(zip(order, order[1:] + order[:1], strict=True)) | {kept: kept}
    yield backend.xp.concat([query_x[:, moved[p] : moved[p] + 1] for p in range(queries)], axis=1)


def _as_many(rows: Array, count: int, backend: Backend) -> Array:
    """So many of the rows ``(1, N, *features)``, from the first again where they do not suffice."""
    return backend.xp.concat([rows] * -(-count // rows.shape[1]), axis=1)[:, :count]


def _enlarged(support_x: Array, query_x: Array, task: slice, backend: Backend) -> Array | None:
    """The queries of a task a thousand times as large and with the other sign, where that breaks nothing."""
    if backend.device != "cpu" or not backend.xp.isdtype(query_x.dtype, "real floating"):
        return None
    rows = np.concatenate([backend.to_numpy(x).reshape(-1, *x.shape[2:]) for x in (support_x, query_x)])
    whole = (rows == np.round(rows)).all(axis=0)
    return None if whole.all() else query_x[task] * backend.asarray(np.where(whole, 1.0, MAGNIFIED))
