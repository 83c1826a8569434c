"""What is learned from tasks that nothing was trained on: which learner to take, and when it will fail."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from mltk.summary import Lines, Summary
from mltk.task_analysis.measures import Measures
from mltk.toolkit.evidence import Evidence
from mltk.toolkit.failure import FailurePredictor, FittedFailurePredictor
from mltk.toolkit.selection import AlgorithmSelector, FittedSelector

WORST = 0.25
"""The part of the tasks that fail, where nobody says what failing is."""


@dataclass(frozen=True, repr=False)
class Decisions(Summary):
    """What is done with a new task.

    Attributes:
        evidence: What they were learned from.
        best: The learner that did best on those tasks.
        selector: Chooses a learner for each task; where it is ``None`` or abstains, the best one is taken.
        failure: Foresees whether that learner fails; ``None`` to leave that out.
    """

    evidence: Evidence
    best: str
    selector: FittedSelector | None = None
    failure: FittedFailurePredictor | None = None

    @classmethod
    def learned(
        cls, evidence: Evidence, *, features: Collection[str], threshold: float | None = None, seed: int = 0
    ) -> Decisions:
        """Learn them.

        The selector is learned from the first half of the tasks. Failures are learned from what the learners
        that it takes do on the other half, or on all tasks if it abstains.

        Args:
            evidence: How the learners did on tasks of unseen classes.
            features: What is switched on: ``"selection"``, ``"failure"``.
            threshold: What failing means: an accuracy below it, or an error above; ``None`` for the worst
                quarter of the tasks, or fewer where too many are alike.
            seed: Of both.
        """
        means = evidence.outcomes.mean(axis=1)
        better = evidence.metric == "accuracy"
        best = evidence.learners[int(np.argmax(means if better else -means))]
        selector, rest = None, evidence
        if "selection" in features and len(evidence.learners) > 1:
            middle = evidence.outcomes.shape[1] // 2
            selector = AlgorithmSelector(seed=seed).fit(evidence.take(slice(0, middle)))
            if not selector.abstains:
                rest = evidence.take(slice(middle, None))
        if "failure" not in features:
            return cls(evidence, best, selector)
        names = cls(evidence, best, selector).choose(rest.known, rest.outcomes.shape[1])
        rows = [evidence.learners.index(name) for name in names]
        outcomes = rest.outcomes[rows, np.arange(len(rows))]
        if threshold is None:
            threshold = beyond_worst(outcomes if better else -outcomes) * (1 if better else -1)
        predictor = FailurePredictor(threshold, metric="accuracy" if better else "mse", seed=seed)
        of_tasks = {"classes": rest.classes, "groups": rest.groups}
        return cls(evidence, best, selector, predictor.fit(rest.known, outcomes, **of_tasks))

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        lines = [("best", self.best)]
        for part in (self.selector, self.failure):
            if part is not None:
                title, rest = part.summary()
                lines += [("", title), *rest]
        return f"Decisions between {', '.join(self.evidence.learners)}", lines

    @property
    def needed(self) -> bool:
        """Whether anything of a task must be known."""
        return self.failure is not None or not (self.selector is None or self.selector.abstains)

    def choose(self, known: Measures | None, tasks: int) -> tuple[str, ...]:
        """The name of the learner for each of some tasks."""
        if known is None or self.selector is None or self.selector.abstains:
            return (self.best,) * tasks
        return tuple(str(name) for name in self.selector.choose(known))


def beyond_worst(outcomes: np.ndarray) -> float:
    """The least outcome that a quarter of them are below; the best one where fewer are below even that."""
    levels, counts = np.unique(outcomes, return_counts=True)
    below = np.cumsum(counts) - counts
    return float(levels[min(int(np.searchsorted(below, WORST * outcomes.size)), levels.size - 1)])
