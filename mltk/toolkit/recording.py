"""Writing down what is watched: a row for each task a learner is judged on, and for steps of trainings."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from array_api_compat import array_namespace

from mltk import tree
from mltk.evaluation.entry import Entry
from mltk.toolkit.row import Row
from mltk.training.config import to_config
from mltk.training.fingerprint import digest, fingerprint
from mltk.training.runs import LINES_A_RUN
from mltk.tree import Tree
from mltk.watching import StepSeen, TasksSeen

LONGEST = 120
"""Characters of the description of a source; what is longer ends in a digest."""


def source_of(tasks: Any) -> str:
    """A short description of a task source: that of two sources is the same only if they draw the same tasks.

    It is the configuration that a run folder would hold, as JSON. Where that is long, or does not say all, as
    of arrays and of objects that are not mltk's own, it is cut, and ends in a digest of everything.
    """
    config, facts = json.dumps(to_config(tasks)), fingerprint("tasks", tasks)
    if not facts and len(config) <= LONGEST:
        return config
    return f"{config[: LONGEST - 20]}… {digest(json.dumps([config, facts]))}"


def run_of(entries: Sequence[Entry]) -> str:
    """What rows of these learners are part of: another run when one of them has been trained on."""
    known = {entry.name: entry.meta_params for entry in sorted(entries, key=lambda entry: entry.name)}
    return f"{' and '.join(known)}/{digest(json.dumps(fingerprint('meta_params', known)))[:8]}"


def new_run() -> str:
    """A name that no other run has: the time, and some digits."""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S')} {uuid.uuid4().hex[:6]}"


@dataclass
class Recorder:
    """A `mltk.watching.Watcher` that writes rows: see `Records.watcher`.

    Of an evaluation and an A/B test there is a row for each task and learner in ``RUN/evaluation``, with the
    measures and costs that were found, and the classes and groups of the task as its trace. Of a training
    there are rows for 200 steps or so in ``RUN/training``, and for the first and the last: their loss, the
    norm of the meta-gradient, and the seconds a step.

    Attributes:
        add: Where the rows go: `Records.add`.
        run: What the rows are part of.

    Examples:
        >>> import mltk
        >>> tasks, be = mltk.data.Sinusoid(shots=5, queries=5), mltk.backend("numpy")
        >>> maml = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse")
        >>> records = mltk.Records()
        >>> run = mltk.train(maml, tasks, backend=be, steps=1000, watch=records.watcher(run="first"))
        >>> rows = records.rows(run="first/training")
        >>> len(rows), rows[1].episode, rows[1].metric, sorted(rows[1].measures)
        (201, 5, 'loss', ['gradient norm'])
    """

    add: Callable[[Iterable[Row]], int]
    run: str
    _sources: dict[int, tuple[Any, str]] = field(default_factory=dict, repr=False)
    _last: tuple[int, float] | None = field(default=None, repr=False)

    def on_step(self, seen: StepSeen) -> None:
        """See `mltk.watching.Watcher`."""
        every = max(1, seen.steps // LINES_A_RUN)
        if seen.step % every and seen.step not in (1, seen.steps):
            return
        costs, now = {}, time.perf_counter()
        if self._last is not None and self._last[0] < seen.step:
            costs["seconds"] = (now - self._last[1]) / (seen.step - self._last[0])
        self._last = seen.step, now
        learner, measures = type(seen.learner).__name__, {"gradient norm": _norm(seen.grads), **seen.figures}
        key = f"{self.run}/training", self._source(seen.tasks), seen.seed, seen.step, learner
        trace = {} if seen.folder is None else {"folder": str(seen.folder)}
        self.add([Row(*key, "loss", float(seen.loss), measures, costs, trace)])

    def on_tasks(self, seen: TasksSeen) -> None:
        """See `mltk.watching.Watcher`."""
        run, source = f"{self.run}/evaluation", self._source(seen.tasks)
        if seen.over != "tasks":  # other tasks under the same numbers
            source = f"{source} over {seen.over}"
        of_tasks = {name: getattr(seen, name) for name in ("classes", "groups")}
        costs = {} if seen.seconds is None else {"seconds": seen.seconds}
        self.add(
            Row(
                *(run, source, seen.seed, seen.first + task, seen.name, seen.metric, value),
                {name: float(values[task]) for name, values in seen.measures.items()},
                costs,
                {name: told[task].tolist() for name, told in of_tasks.items() if told is not None},
            )
            for task, value in enumerate(seen.values.tolist())
        )

    def _source(self, tasks: Any) -> str:
        """Its description, which takes a while where it has many arrays."""
        if id(tasks) not in self._sources:
            self._sources[id(tasks)] = tasks, source_of(tasks)
        return self._sources[id(tasks)][1]


def _norm(grads: Tree) -> float:
    squares = [float(array_namespace(leaf).sum(leaf * leaf)) for leaf in tree.leaves(grads)]
    return math.sqrt(sum(squares))
