"""The hardest of several candidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mltk.checks import Several
from mltk.data.source import Proposal
from mltk.task_analysis.curricula.of_tasks import OfTasks, State, Step, chosen


@dataclass(frozen=True)
class HardMining(OfTasks):
    """Trains on those of several times as many tasks that are hardest for the learner at present.

    What is minimised is then no longer the mean loss of the tasks: the loss of the hardest of $c$ counts for
    most. Each step adapts to ``candidates`` times as many tasks, beside its training.

    Attributes:
        tasks: The source of the candidates.
        candidates: How many there are for each task that is chosen, at least 2.

    Raises:
        SettingError: If a setting is not valid.

    Examples:
        >>> import mltk
        >>> tasks = mltk.task_analysis.curricula.HardMining(mltk.data.Sinusoid(shots=5, queries=5))
        >>> maml = mltk.algorithms.MAML(mltk.models.mlp([1, 20, 1]), "mse")
        >>> run = mltk.train(maml, tasks, backend=mltk.backend("numpy"), steps=2, log_every=1)
        >>> sorted(run.history[-1])
        ['difficulty', 'loss', 'seconds', 'step']
    """

    candidates: Several = 4

    def proposed(self, step: Step, state: State) -> Proposal:
        """See `OfTasks`; logged is the mean difficulty of the candidates."""
        episode, found = self.candidates_of(step, self.candidates)
        hardest = np.argsort(-found, kind="stable")[: step.n_tasks]
        return Proposal(chosen(episode, hardest.tolist()), state, {"difficulty": float(found.mean())})
