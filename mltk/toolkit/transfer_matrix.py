"""What a memory of one source of tasks is worth on another, for all pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mltk.backend import backend_of
from mltk.checks import check_count, check_has
from mltk.data.source import TaskSource
from mltk.errors import SettingError
from mltk.evaluation.paired import compare
from mltk.evaluation.unseen_tasks import evaluate
from mltk.plain import plain
from mltk.summary import Lines, Summary
from mltk.toolkit.transfer import KnowledgeTransfer


@dataclass(frozen=True, repr=False)
class TransferMatrix(Summary):
    """How a learner does on tasks of each source, from a memory of each, less without one.

    Attributes:
        names: Of the sources.
        metric: ``"accuracy"`` or ``"mse"``.
        without: What is reached without a memory, ``(n,)``.
        gains: The mean paired difference, ``(n, n)``: on the tasks of a column, from a memory of a row; of
            errors less is better.
        low: Where its 95 % interval over tasks begins, ``(n, n)``, not corrected for their number.
        high: Where it ends.
    """

    names: tuple[str, ...]
    metric: str
    without: np.ndarray = field(repr=False)
    gains: np.ndarray = field(repr=False)
    low: np.ndarray = field(repr=False)
    high: np.ndarray = field(repr=False)

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        own, pairs = np.eye(len(self.names), dtype=bool), len(self.names) * (len(self.names) - 1)
        better, worse = self.low > 0, self.high < 0
        if self.metric != "accuracy":
            better, worse = worse, better
        lines = [("from its own memory", f"{self.gains[own].mean():+.4f}")]
        if pairs:
            told = f"{self.gains[~own].mean():+.4f}, better in {better[~own].sum()} and worse in "
            lines.append(("from another", f"{told}{worse[~own].sum()} of {pairs} pairs"))
        return f"Transfer between {len(self.names)} sources: {self.metric} less that without", lines

    def to_dict(self) -> dict[str, Any]:
        """All of it."""
        named = ("names", "metric", "without", "gains", "low", "high")
        return {name: plain(getattr(self, name)) for name in named}


def transfer_matrix(
    transfer: KnowledgeTransfer,
    sources: Mapping[str, TaskSource],
    *,
    remembered: int = 50,
    rounds: int = 10,
    episodes: int = 100,
    seed: int = 0,
) -> TransferMatrix:
    """Warm starts on the tasks of each source from a memory of each: see `TransferMatrix`.

    Args:
        transfer: The learner and how it is to transfer; what it remembers itself takes no part.
        sources: Where tasks come from, by name; all for the same learner.
        remembered: Tasks in each memory; none of them is among those that are judged.
        rounds: How often the learner adapts to each of them.
        episodes: Tasks of each source to judge by, the same for all memories.
        seed: Of all tasks.

    Raises:
        SettingError: If there are no sources, or a setting is not valid.

    Examples:
        >>> import mltk
        >>> be, tasks = mltk.backend("numpy"), mltk.data.Sinusoid(shots=10, queries=20)
        >>> maml = mltk.algorithms.MAML(mltk.models.mlp([1, 40, 40, 1]), "mse")
        >>> run = mltk.train(maml, tasks, backend=be, steps=300)
        >>> families = {"curves": tasks, "lines": mltk.data.LinearRegression(10, 20, features=1)}
        >>> transfer = mltk.toolkit.KnowledgeTransfer(maml, run.meta_params)
        >>> found = mltk.toolkit.transfer_matrix(transfer, families)
        >>> found.gains.shape, bool(found.high[1, 1] < 0)
        ((2, 2), True)
    """
    if not isinstance(sources, Mapping) or not sources:
        raise SettingError(f"sources is {sources!r}; expected a dict of task sources, by name")
    for source in sources.values():
        check_has("each of sources", source, "sample", "mltk.data.Sinusoid(...)")
    check_count("remembered", remembered)
    backend, params = backend_of(transfer.meta_params), transfer.meta_params
    settings: dict[str, Any] = {"episodes": episodes, "seed": seed, "backend": backend}
    cold = [evaluate(transfer.learner, params, source, **settings) for source in sources.values()]
    found = np.empty((3, len(sources), len(sources)))
    for row, source in enumerate(sources.values()):
        own = replace(transfer)
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(4, row)))
        seen = source.sample(remembered, rng, backend)
        own.remember(seen.support_x, seen.support_y, rounds=rounds)
        for column, other in enumerate(sources.values()):
            warm = evaluate(own, params, other, **settings)
            difference = compare(warm, cold[column]).difference
            found[:, row, column] = difference.estimate, difference.low, difference.high
    without = np.asarray([each.mean for each in cold])
    return TransferMatrix(tuple(sources), cold[0].metric, without, *found)
