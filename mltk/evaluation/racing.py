r"""Which of many learners is best, without testing all of them to the end: a race.

The learners that are left meet the same tasks. One of them leaves as soon as the evidence that another is
better (`mltk.evaluation.e_process`) reaches $(k-1)/\alpha$ for $k$ learners: so the best one, or one that is
exchangeable with the best, leaves with probability at most $\alpha$, however often one looks. Nobody leaves
for one whose mean is no better. As with `mltk.evaluation.ab_test`, that is about tasks of this source: of
other classes another one may be best.

With ``halving=True`` the worse half of those left leaves, too, after 40 tasks, after 80, and so on, as in
successive halving (Karnin, Koren & Somekh 2013). That saves more tasks, but asks for no proof, and of it
$\alpha$ says nothing: where the best is better by little, it may well be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mltk.checks import (
    Between,
    Count,
    CountOrZero,
    Flag,
    checked,
)
from mltk.contracts import Backend
from mltk.data.source import Tasks
from mltk.errors import SettingError
from mltk.evaluation.blocks import BLOCK
from mltk.evaluation.e_process import EProcess
from mltk.evaluation.entry import backend_of_all, check_named, entry_of
from mltk.evaluation.side_by_side import advantages, check_same_metric, evidence_for, leads, scores, tell
from mltk.progress import Progress, showing
from mltk.summary import Lines, Summary
from mltk.watching import Watch, watchers

FIRST = 2 * BLOCK
"""Tasks of the first round."""


@dataclass(frozen=True, repr=False)
class Race(Summary):
    """How a race went.

    Attributes:
        ranking: The names of the learners: those that were left at the end, the best first, and then those
            that left, the last one first.
        metric: What was measured.
        means: The mean of each learner over the tasks that it met.
        tasks: How many tasks each learner met.
        left: Why a learner left: ``"worse"`` with proof, or ``"half"`` without; absent for those that did
            not.

    Examples:
        >>> import mltk
        >>> tasks, be = mltk.data.Blobs(ways=3, shots=1, queries=10), mltk.backend("numpy")
        >>> learners = {"plain": mltk.algorithms.Prototypical(mltk.models.Sequential([]))}
        >>> for width in (1, 2):
        ...     learners[f"narrow{width}"] = mltk.algorithms.Prototypical(mltk.models.mlp([3, width, 3]))
        >>> pairs = {name: (each, each.init(be, seed=0)) for name, each in learners.items()}
        >>> print(mltk.evaluation.race(pairs, tasks, max_tasks=400, backend=be).winner)
        plain
    """

    ranking: tuple[str, ...]
    metric: str
    means: dict[str, float]
    tasks: dict[str, int]
    left: dict[str, str]

    @property
    def winner(self) -> str:
        """The best of those that were left."""
        return self.ranking[0]

    def __str__(self) -> str:
        total = sum(self.tasks.values())
        proven = all(self.left.get(name) == "worse" for name in self.ranking[1:])
        said = "better than all others" if proven else "ahead"
        halved = list(self.left.values()).count("half")
        unproven = f"; {halved} left without proof" if halved else ""
        return (
            f"{self.winner} is {said}: {self.metric} {self.means[self.winner]:.4g} after "
            f"{self.tasks[self.winner]} tasks, {total} of all learners together{unproven}"
        )

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        why = {"worse": "left: worse", "half": "left: in the worse half", None: "in the race to the end"}
        lines = [
            (name, f"{self.means[name]:.4g} on {self.tasks[name]} tasks, {why[self.left.get(name)]}")
            for name in self.ranking
        ]
        return f"Race: {self}", lines


@checked
def race(
    learners: Mapping[str, Any],
    tasks: Tasks,
    *,
    max_tasks: Count = 1000,
    alpha: Between = 0.05,
    halving: Flag = False,
    seed: CountOrZero = 0,
    backend: Backend | None = None,
    progress: bool | Progress | None = None,
    watch: Watch = (),
) -> Race:
    """Find the best of some learners: see `mltk.evaluation.racing`.

    Args:
        learners: A pair ``(learner, meta_params)`` under each name.
        tasks: Where tasks come from.
        max_tasks: The most tasks that a learner meets.
        alpha: How often the best may leave because another was found better.
        halving: Whether the worse half leaves after each round, too, which ``alpha`` does not cover.
        seed: Of the tasks, which are those of `mltk.evaluate`.
        backend: Where to compute; ``None`` for the backend of the meta-parameters.
        progress: Called with the number of tasks; ``None`` shows a bar in a terminal.
        watch: Told of each learner that is left on each 20 tasks: see `mltk.watching.Watcher`.

    Raises:
        SettingError: If a setting is not valid.
        MltkError: As `mltk.evaluate`.
    """
    if len(check_named("learners", learners)) < 2:
        raise SettingError(f"learners holds {', '.join(learners)} alone; expected at least two")
    entries = [entry_of(value, name, called=name) for name, value in check_named("learners", learners)]
    chosen = backend_of_all(entries, backend)
    told = watchers(watch)
    names, count = [entry.name for entry in entries], len(entries)
    needed = evidence_for(alpha / (count - 1))
    running, sums = list(range(count)), np.zeros(count)
    met, left = np.zeros(count, dtype=int), dict[int, str]()
    evidence = {(i, j): EProcess() for i in range(count) for j in range(i)}
    metric, done, round_ends = None, 0, FIRST
    with showing(progress, "race") as report:
        while done < max_tasks and len(running) > 1:
            stop = min(done + BLOCK, max_tasks)
            racing = [entries[each] for each in running]
            found = next(scores(racing, tasks, start=done, stop=stop, seed=seed, backend=chosen))
            metric = check_same_metric(metric, found.metric)
            tell(told, racing, tasks, found, seed=seed, first=done)
            values = dict(zip(running, found.values, strict=True))
            for each, own in values.items():
                sums[each] += own.sum()
                met[each] += own.size
            worse = set()
            for i, j in [pair for pair in evidence if set(pair) <= set(running)]:
                evidence[i, j], logs = evidence[i, j].update(advantages(metric, values[i], values[j]))
                found_out = (logs.max(axis=0) >= needed) & leads(metric, sums[i] - sums[j], stop)
                worse |= {loser for loser, known in zip((j, i), found_out, strict=True) if known}
            done = stop
            running = _without(running, worse, left, "worse")
            if done >= round_ends:
                round_ends *= 2
                if halving and len(running) > 2:
                    best = _ordered(running, sums / np.maximum(met, 1), metric)
                    running = _without(running, set(best[-(len(running) // 2) :]), left, "half")
            report(done, max_tasks, None)
    assert metric is not None
    means = sums / met
    order = _ordered(running, means, metric) + list(left)[::-1]
    return Race(
        tuple(names[each] for each in order),
        metric,
        {names[each]: float(means[each]) for each in order},
        {names[each]: int(met[each]) for each in order},
        {names[each]: why for each, why in left.items()},
    )


def _ordered(some: list[int], means: np.ndarray, metric: str) -> list[int]:
    """The best first."""
    return sorted(some, key=lambda each: -means[each] if metric == "accuracy" else means[each])


def _without(running: list[int], leaving: set[int], left: dict[int, str], why: str) -> list[int]:
    """Those that stay; at least one does."""
    staying = [each for each in running if each not in leaving] or running[:1]
    left.update({each: why for each in running if each not in staying})
    return staying
