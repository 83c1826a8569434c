"""Tasks of the past as task sources: all stages of a stream, an episode at hand, and what records name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from mltk.contracts import Backend
from mltk.data.source import TaskSource, generator
from mltk.episode import Episode, joined
from mltk.errors import SettingError
from mltk.evaluation.blocks import BLOCK, block_generator
from mltk.toolkit.recording import source_of
from mltk.toolkit.row import Row


@dataclass(frozen=True)
class Replay:
    """Several sources in one: each task is of any of them, with equal chances.

    Attributes:
        sources: At least one. Of a single one the tasks are those that it draws by itself.

    Examples:
        >>> import mltk
        >>> low, high = (mltk.data.Sinusoid(5, 5, amplitude=(a, a)) for a in (1.0, 5.0))
        >>> episode = mltk.toolkit.Replay((low, high)).sample(100, 0, mltk.backend("numpy"))
        >>> 30 < int((abs(episode.query_y).max(axis=(1, 2)) > 1).sum()) < 70
        True
    """

    sources: tuple[TaskSource, ...]

    def sample(self, n_tasks: int, rng: int | np.random.Generator, backend: Backend) -> Episode:
        """Draw tasks, those of one source together: see `mltk.data.TaskSource`."""
        rng = generator(rng, n_tasks)
        if len(self.sources) == 1:
            return self.sources[0].sample(n_tasks, rng, backend)
        counts = np.bincount(rng.integers(len(self.sources), size=n_tasks), minlength=len(self.sources))
        drawn = zip(self.sources, counts.tolist(), strict=True)
        return joined([source.sample(count, rng, backend) for source, count in drawn if count])


@dataclass(frozen=True)
class FixedTasks:
    """The tasks of an episode as a source: where tasks are few, or arrive one by one.

    Attributes:
        episode: The tasks.

    Examples:
        >>> import mltk
        >>> be = mltk.backend("numpy")
        >>> episode = mltk.data.Sinusoid(shots=5, queries=5).sample(3, 0, be)
        >>> mltk.toolkit.FixedTasks(episode).sample(8, 0, be).support_x.shape
        (8, 5, 1)
    """

    episode: Episode = field(repr=False)

    def sample(self, n_tasks: int, rng: int | np.random.Generator, backend: Backend) -> Episode:
        """Draw among the tasks: each at most once, unless there are fewer than are asked for."""
        rng, there = generator(rng, n_tasks), len(self.episode.support_x)
        numbers = rng.choice(there, n_tasks, replace=n_tasks > there)
        one = [self.episode.take(slice(number, number + 1)) for number in numbers.tolist()]
        return joined(one).to(backend)


def recorded_tasks(rows: Iterable[Row], tasks: TaskSource, *, backend: Backend) -> FixedTasks:
    """The tasks that rows of `mltk.Records` name, drawn again.

    Args:
        rows: Rows of evaluations; those of other sources, and those of trainings, are left out.
        tasks: Where the tasks were from.
        backend: Where they go.

    Raises:
        SettingError: If no row is of an evaluation on these tasks.

    Examples:
        >>> import mltk
        >>> tasks, be = mltk.data.Sinusoid(shots=5, queries=5), mltk.backend("numpy")
        >>> learner = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse")
        >>> records = mltk.Records()
        >>> params, watcher = learner.init(be, 0), records.watcher(run="first")
        >>> found = mltk.evaluate(learner, params, tasks, episodes=30, watch=watcher)
        >>> hard = [row for row in records.rows() if row.outcome > 5]
        >>> again = mltk.toolkit.recorded_tasks(hard, tasks, backend=be)
        >>> len(again.episode.support_x) == int((found.values > 5).sum())
        True
    """
    source, wanted = source_of(tasks), defaultdict(set)
    for row in rows:
        if row.source == source and row.metric != "loss":
            wanted[row.seed, row.episode // BLOCK].add(row.episode % BLOCK)
    if not wanted:
        raise SettingError(f"rows has none of an evaluation on {source}; expected at least one")
    found = []
    for (seed, block), places in sorted(wanted.items()):
        drawn = tasks.sample(BLOCK, block_generator(seed, block), backend)
        found += [drawn.take(slice(place, place + 1)) for place in sorted(places)]
    return FixedTasks(joined(found))
