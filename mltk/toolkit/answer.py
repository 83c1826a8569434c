"""What the toolkit answers to a task, and what is to be thought of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mltk.plain import plain
from mltk.summary import Lines, Summary
from mltk.toolkit.passes import TestTimeAnswer


@dataclass(frozen=True, repr=False)
class Answer(Summary):
    """What is predicted for the queries of some tasks, by which learner, and how sure that is.

    Attributes:
        learner: The name of the learner that was taken for each task.
        outputs: Log-probabilities ``(T, M, ways)``, or for regression values ``(T, M, d)``; float64.
        probabilities: Of each class, ``(T, M, ways)``; ``None`` for regression.
        spread: How much the passes differ on each query, as in `mltk.toolkit.TestTimeAnswer`.
        passes: How many times each task was looked at, ``(T,)``.
        failure_risk: How probable it is that a task fails, ``(T,)``; ``None`` where that is switched off, or
            nothing was kept back to learn it from.
        threshold: What failing means: an accuracy below it, or an error above; ``None`` likewise.

    Examples:
        >>> import mltk
        >>> tasks, be = mltk.data.Blobs(ways=3, shots=5, queries=5), mltk.backend("numpy")
        >>> toolkit = mltk.MetaLearningToolkit(["ridge", "prototypical"], backend=be)
        >>> _ = toolkit.train(tasks, steps=10, progress=False)
        >>> task = tasks.sample(2, 0, be)
        >>> answer = toolkit.predict(task.support_x, task.support_y, task.query_x)
        >>> answer.labels.shape, answer.probabilities.shape, answer.failure_risk.shape, len(answer.learner)
        ((2, 15), (2, 15, 3), (2,), 2)
    """

    learner: tuple[str, ...]
    outputs: np.ndarray
    probabilities: np.ndarray | None
    spread: np.ndarray
    passes: np.ndarray
    failure_risk: np.ndarray | None = None
    threshold: float | None = None

    @classmethod
    def joined(
        cls, names: Sequence[str], parts: Sequence[tuple[np.ndarray, TestTimeAnswer]], **told: Any
    ) -> Answer:
        """One answer of those of several learners.

        Args:
            names: The learner of each task.
            parts: The numbers of the tasks that each learner has answered, and its answer.
            **told: Of failures.
        """
        order = np.argsort(np.concatenate([rows for rows, _ in parts]))

        def of_all(name: str) -> np.ndarray:
            return np.asarray(np.concatenate([getattr(answer, name) for _, answer in parts])[order])

        probabilities = None if parts[0][1].probabilities is None else of_all("probabilities")
        found = (of_all("outputs"), probabilities, of_all("spread"), of_all("passes"))
        return cls(tuple(names), *found, **told)

    @property
    def labels(self) -> np.ndarray | None:
        """The most probable class of each query, ``(T, M)``; ``None`` for regression."""
        return None if self.probabilities is None else np.asarray(np.argmax(self.outputs, axis=2))

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain numbers, texts and lists."""
        return dict(plain(self))

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        taken = ", ".join(f"{name} for {count}" for name, count in Counter(self.learner).most_common())
        lines = [("learner", taken), ("passes", f"{self.passes.min()} to {self.passes.max()} a task")]
        lines.append(("spread", f"{self.spread.mean():.3g} on average, at most {self.spread.max():.3g}"))
        if self.failure_risk is not None:
            risk = self.failure_risk
            what = f"{risk.mean():.3g} on average, from {risk.min():.3g} to {risk.max():.3g}"
            lines.append(("failure risk", f"{what} (beyond {self.threshold:.3g})"))
        tasks, queries = self.outputs.shape[:2]
        return f"Answer: {queries} queries of {tasks} task{'s' * (tasks != 1)}", lines
