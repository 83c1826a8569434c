"""Which classes are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often each class was taken for each other, where both were among the classes of a task.

    Attributes:
        counts: Queries of the class of a row that were taken for that of a column, ``(C, C)``.
        opportunities: Queries of the class of a row in tasks that have that of the column, ``(C, C)``.
        names: Those of the classes.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> counts = np.asarray([[3, 1], [2, 2]])
        >>> mltk.task_analysis.Confusion(counts, np.full((2, 2), 4), ("a", "b")).most_confused(1)
        [('a', 'b', 0.375, 8)]
    """

    counts: np.ndarray
    opportunities: np.ndarray
    names: Sequence[str]

    def most_confused(self, pairs: int = 10) -> list[tuple[str, str, float, int]]:
        """Pairs of classes, the rate at which one is taken for the other, and the queries that it is of.

        They are in order of the lower end of the 95 % interval of the rate (Wilson 1927), so that a pair
        which met once does not come first.
        """
        one, other = np.nonzero(np.triu(self.opportunities + self.opportunities.T, 1))
        count, out_of = (
            (both + both.T)[one, other].astype(np.float64) for both in (self.counts, self.opportunities)
        )
        rate, z = count / out_of, 1.959963984540054
        spread = z * np.sqrt(rate * (1 - rate) / out_of + (z / out_of / 2) ** 2)
        lower = (rate + z**2 / out_of / 2 - spread) / (1 + z**2 / out_of)
        order = np.argsort(-lower, kind="stable")[:pairs]
        return [
            (self.names[one[pair]], self.names[other[pair]], float(rate[pair]), int(out_of[pair]))
            for pair in order
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything, as lists for JSON."""
        counts, opportunities = self.counts.tolist(), self.opportunities.tolist()
        return {"counts": counts, "opportunities": opportunities, "names": list(self.names)}


def count_confused(
    confusion: Confusion, classes: np.ndarray, labels: np.ndarray, predicted: np.ndarray
) -> None:
    """Add the predictions of some tasks to the counts, in place.

    Args:
        confusion: Where to.
        classes: The number of the class of each label, ``(T, ways)``.
        labels: Those of the queries, ``(T, M)``.
        predicted: What they were taken for, ``(T, M)``.
    """
    true = np.take_along_axis(classes, labels, axis=1)
    np.add.at(confusion.counts, (true, np.take_along_axis(classes, predicted, axis=1)), 1)
    np.add.at(confusion.opportunities, (true[:, :, None], classes[:, None, :]), 1)
