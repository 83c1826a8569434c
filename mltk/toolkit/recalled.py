"""What is known of new tasks from those that are remembered."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mltk.backend import backend_of
from mltk.plain import plain
from mltk.summary import Lines, Summary
from mltk.tree import Array, Tree


@dataclass(frozen=True, repr=False)
class Recalled(Summary):
    """What is known of new tasks from those that are remembered.

    Attributes:
        params: What each may start from: the meta-parameters, in which the leaves that are transferred have a
            task axis.
        similarity: To each remembered task, ``(T, J)``; ``J`` is 0 if nothing is remembered.
        weights: Of the remembered tasks in the warm start, ``(T, J)``.
        familiarity: The share of the remembered tasks whose most similar other one is no more like them than
            the most similar one is like this task, ``(T,)``.
        gain: By how much less the support examples are mistaken that are left out, on average, from the warm
            start, ``(T,)``; NaN where they were not asked.
        used: For which tasks the warm start is used, ``(T,)`` bool; the others start from the
            meta-parameters.
    """

    params: Tree = field(repr=False)
    similarity: Array
    weights: Array
    familiarity: Array
    gain: Array
    used: Array

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        told = self.to_dict()
        lines = [("warm start", f"for {told['used']} of {told['tasks']} tasks")]
        if told["remembered"]:
            lines.append(("most similar", f"{np.mean(told['similarity']):.2f} on average"))
        return f"Recalled from {told['remembered']} tasks", lines

    def to_dict(self) -> dict[str, Any]:
        """How many tasks use the warm start, and each one's largest similarity, familiarity and gain."""
        to_numpy = backend_of(self.similarity).to_numpy
        similarity = to_numpy(self.similarity)
        tasks, remembered = similarity.shape
        return {
            "tasks": tasks,
            "remembered": remembered,
            "used": int(to_numpy(self.used).sum()),
            "similarity": plain(similarity.max(1)) if remembered else [],
            "familiarity": plain(to_numpy(self.familiarity)),
            "gain": plain(to_numpy(self.gain)),
        }
