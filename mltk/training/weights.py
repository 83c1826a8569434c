"""The meta-gradient of an episode whose tasks have weights, of any learner."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mltk import tree
from mltk.contracts import Learner
from mltk.tree import Array, Tree


def weighted_value_and_grad(learner: Learner, meta_params: Tree, episode: Any) -> tuple[Array, Tree]:
    r"""The meta-loss $\frac1T \sum_t w_t L_t$ and its gradient.

    A ``value_and_grad`` of mltk's own sees to the weights itself. Any other may not know of them, and is
    asked for each task alone, which is slower but right for whatever averages over tasks.

    Args:
        learner: Any learner.
        meta_params: As from its ``init``.
        episode: Its tasks, with or without weights.
    """
    weights = getattr(episode, "weights", None)  # environments of policies have none
    own = getattr(learner.value_and_grad, "__module__", None) or ""
    if weights is None or own.partition(".")[0] == "mltk":
        return learner.value_and_grad(meta_params, episode)
    total: tuple[Array, Tree] | None = None
    for task, weight in enumerate((weights / len(weights)).tolist()):
        one = replace(episode.take(slice(task, task + 1)), weights=None)
        value, grads = learner.value_and_grad(meta_params, one)
        part = weight * value, tree.map(lambda leaf, w=weight: w * leaf, grads)
        total = (
            part if total is None else (total[0] + part[0], tree.map(lambda a, b: a + b, total[1], part[1]))
        )
    assert total is not None  # an episode has at least one task
    return total
