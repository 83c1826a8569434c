r"""Signs that a classifier will fail on a task, from its answers alone, before anyone knows the right ones.

With the probabilities $p_{mk}$ that a learner gives to the classes $k$ of the queries $m$:

- *entropy*, $\frac1M \sum_{mk} -p_{mk} \ln p_{mk}$, how undecided it is;
- *unevenness*, $\frac12 \sum_k |n_k / M - 1 / K|$, where $n_k$ queries are answered $k$: what part of the
  answers must be wrong if the queries are of all classes alike, as in most protocols. It says as much as the
  queries are so in the tasks to come, too;
- *echo* and *agreement*: the learner adapts once more, to the queries that it is surest of for each class in
  place of the support examples, and answers again; with the new probabilities $q$ they are
  $\frac1M \sum_m q_{m, \hat k_m}$ for the first answers $\hat k_m = \arg\max_k p_{mk}$, and the part of the
  queries whose answer is the same. Where classes are as the support says, it matters little which of their
  examples one learns from.

The last two are measures of how stable answers are, as in self-training; that of the surest queries keeps the
form of a support set, so that any learner can adapt to it. All of them see the queries, whose luck they
share: they may pass the ceiling of what is known before (`mltk.task_analysis.ceiling`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mltk.episode import Episode
from mltk.evaluation.entry import Entry
from mltk.evaluation.unseen_tasks import predictions_for
from mltk.task_analysis.class_means import probabilities


def signs(entry: Entry, episode: Episode, outputs: np.ndarray) -> dict[str, np.ndarray]:
    """The signs in what a learner answers.

    Args:
        entry: The learner and its meta-parameters.
        episode: Tasks of classification; the labels of their queries are not looked at.
        outputs: Its outputs for the queries, logits ``(T, M, ways)``; more outputs than ways are left out.

    Returns:
        Each sign's value for each task, ``(T,)`` float64, under its name.

    Raises:
        MltkError: If the learner cannot adapt to the queries, or answers nothing finite then.
    """
    ways = episode.ways or 0
    p = np.asarray(probabilities(outputs[..., :ways]))
    first = p.argmax(axis=-1)
    counts = (first[..., None] == np.arange(ways)).mean(axis=1)
    names = [f"task {task} by {entry.name}, adapted to its own answers" for task in range(len(p))]
    surest = _surest(episode, outputs[..., :ways])
    again = next(predictions_for(entry.learner, entry.meta_params, surest, names, ("query_x",)))
    q = np.asarray(probabilities(again[..., :ways]))
    return {
        "entropy": -(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1).mean(axis=-1),
        "unevenness": np.abs(counts - 1 / ways).sum(axis=-1) / 2,
        "echo": np.take_along_axis(q, first[..., None], axis=-1).mean(axis=(1, 2)),
        "agreement": (q.argmax(axis=-1) == first).mean(axis=-1),
    }


def _surest(episode: Episode, logits: np.ndarray) -> Episode:
    """The tasks with the surest queries of each class in place of its support examples.

    The surest one comes where the first support example of the class is, and so on; where a class has more
    support examples than there are queries, they come again.
    """
    labels = episode.backend.to_numpy(episode.support_y)
    tasks, queries, ways = logits.shape
    # The log-odds, which tell queries apart whose probabilities are 1 to rounding.
    others = np.stack(
        [np.delete(logits, k, axis=2).max(axis=2, initial=-np.inf) for k in range(ways)], axis=2
    )
    order = np.argsort(others - logits, axis=1, kind="stable")
    same = labels[:, :, None] == labels[:, None, :]
    rank = np.tril(same, -1).sum(axis=2) % queries
    rows = np.arange(tasks)[:, None]
    chosen = order[rows, rank, labels]
    asarray = episode.backend.asarray
    return replace(episode, support_x=episode.query_x[asarray(rows), asarray(chosen)])
