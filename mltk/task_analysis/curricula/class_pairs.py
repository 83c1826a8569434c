"""Classes that are mistaken for each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mltk.evaluation.e_process import log_mean_exp
from mltk.task_analysis.curricula.by_class import ByClass, Errors, perturbed


@dataclass(frozen=True)
class ClassPairs(ByClass):
    r"""Draws the classes of a task greedily, so that they are often mistaken for each other.

    The first two classes of a task are a pair, drawn in proportion to $C_{ij} = e^{\ell_{ij}}$; each further
    one, $k$, in proportion to the product of $C_{kj}$ over those drawn before. After each step, the pairs
    that met in it get $\ell_{ij} \leftarrow \tau \ell_{ij} + \alpha \bar p_{ij}$, where $\bar p_{ij}$ is
    the probability that queries of one gave to the other, on average (Liu, Wang, Sahoo, Fang, Zhang & Hoi
    2020, *Adaptive task sampling for meta-learning*). Each step adapts to its tasks twice. What is trained
    on is biased on purpose.

    The state has a number for each pair of classes: 8 bytes × classes², in each checkpoint too.

    Attributes:
        tasks: The source of the tasks, a `mltk.data.source.ClassSource`.
        strength: $\alpha$, what an error counts for.
        memory: $\tau$, how much of a potential is left after the next error, from 0 to 1.

    Raises:
        SettingError: If a setting is not valid, or the source draws no tasks of given classes.

    Examples:
        >>> import mltk
        >>> glyphs = mltk.data.Glyphs(alphabets=2, characters=5, drawings=4, image_size=8)
        >>> tasks = mltk.task_analysis.curricula.ClassPairs(glyphs.tasks(ways=2, shots=1, queries=2))
        >>> learner = mltk.algorithms.Prototypical(mltk.models.Sequential([mltk.ops.Flatten()]))
        >>> state = tasks.start()
        >>> state["potentials"].shape
        (10, 10)
    """

    def start(self) -> dict[str, np.ndarray]:
        """See `mltk.data.source.Proposer`: the potentials of the pairs, ``(C, C)``."""
        return {"potentials": np.zeros((len(self.class_names),) * 2)}

    def draw(
        self, potentials: np.ndarray, allowed: np.ndarray, ways: int, rng: np.random.Generator
    ) -> np.ndarray:
        """See `ByClass.draw`; the first of a pair is drawn in proportion to the sum of its possible pairs."""
        pairs = np.where(np.eye(len(potentials), dtype=bool), -np.inf, potentials)
        groups, of_task = np.unique(allowed, axis=0, return_inverse=True)
        sums = np.stack([log_mean_exp(np.where(group, pairs, -np.inf)) for group in groups])
        logs = sums[of_task.reshape(-1)]
        drawn, left = np.empty((len(allowed), ways), np.int64), allowed.copy()
        for place in range(ways):
            drawn[:, place] = np.argmax(perturbed(logs, left, rng), axis=1)
            left[np.arange(len(left)), drawn[:, place]] = False
            further = potentials[drawn[:, place]]
            logs = logs + further if place else further
        return drawn

    def errors(self, classes: np.ndarray, given: np.ndarray, queries: np.ndarray) -> Errors:
        """See `ByClass.errors`; what a class gives to itself is no error."""
        one, other = np.nonzero(~np.eye(classes.shape[1], dtype=bool))
        both = given[:, one, other] + given[:, other, one]
        return Errors((classes[:, one], classes[:, other]), both, queries[:, one] + queries[:, other])
