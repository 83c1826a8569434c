"""From easy tasks to all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mltk.checks import Count, Part, Several
from mltk.data.source import Proposal
from mltk.task_analysis.curricula.of_tasks import OfTasks, State, Step, chosen


@dataclass(frozen=True)
class Curriculum(OfTasks):
    r"""Trains on easy tasks first, and on all in the end (Bengio, Louradour, Collobert & Weston 2009).

    In step $s = 0, 1, \ldots$, tasks are chosen at random among the easiest part
    $\min(1, a + (1 - a) s / S)$ of the candidates, by the learner at present. From step $S$ on, that is
    sampling as without a curriculum; before, the meta-gradient is that of easy tasks on purpose.

    Attributes:
        tasks: The source of the candidates.
        steps: $S$, after how many steps all tasks are in.
        first: $a$, the part that is chosen from at the start; never fewer than are asked for.
        candidates: How many there are for each task that is chosen, at least 2.

    Raises:
        SettingError: If a setting is not valid.

    Examples:
        >>> import mltk
        >>> tasks = mltk.task_analysis.curricula.Curriculum(mltk.data.Sinusoid(shots=5, queries=5), steps=10)
        >>> maml = mltk.algorithms.MAML(mltk.models.mlp([1, 20, 1]), "mse")
        >>> run = mltk.train(maml, tasks, backend=mltk.backend("numpy"), steps=2, log_every=1)
        >>> [line["part"] for line in run.history]
        [0.25, 0.325]
    """

    steps: Count
    first: Part = 0.25
    candidates: Several = 4

    def start(self) -> State:
        """See `mltk.data.source.Proposer`: how many steps were taken."""
        return {"step": np.asarray(0)}

    def proposed(self, step: Step, state: State) -> Proposal:
        """See `OfTasks`; logged is the part, and the mean difficulty of the candidates."""
        part = min(1.0, self.first + (1 - self.first) * int(state["step"]) / self.steps)
        episode, found = self.candidates_of(step, self.candidates)
        allowed = np.argsort(found, kind="stable")[: max(step.n_tasks, math.ceil(part * len(found)))]
        tasks = step.rng.choice(allowed, step.n_tasks, replace=False)
        figures = {"difficulty": float(found.mean()), "part": part}
        return Proposal(chosen(episode, tasks.tolist()), {"step": state["step"] + 1}, figures)
