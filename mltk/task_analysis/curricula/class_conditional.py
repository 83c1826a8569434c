"""The classes that are often mistaken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mltk.task_analysis.curricula.by_class import ByClass, Errors, perturbed


@dataclass(frozen=True)
class ClassConditional(ByClass):
    r"""Draws the classes of a task one after another in proportion to $e^{\ell_c}$: those often mistaken.

    After each step, the classes that had part in it get $\ell_c \leftarrow \tau \ell_c + \alpha \bar p_c$,
    where $\bar p_c$ is the probability that their queries gave to other classes, on average: the class-based
    sampling that Liu, Wang, Sahoo, Fang, Zhang & Hoi (2020, *Adaptive task sampling for meta-learning*)
    compare theirs with. Each step adapts to its tasks twice. What is trained on is biased on purpose.

    Attributes:
        tasks: The source of the tasks, a `mltk.data.source.ClassSource`.
        strength: $\alpha$, what an error counts for.
        memory: $\tau$, how much of a potential is left after the next error, from 0 to 1.

    Raises:
        SettingError: If a setting is not valid, or the source draws no tasks of given classes.

    Examples:
        >>> import mltk
        >>> glyphs = mltk.data.Glyphs(alphabets=2, characters=5, drawings=4, image_size=8)
        >>> tasks = mltk.task_analysis.curricula.ClassConditional(glyphs.tasks(ways=2, shots=1, queries=2))
        >>> learner = mltk.algorithms.Prototypical(mltk.models.Sequential([mltk.ops.Flatten()]))
        >>> state = tasks.start()
        >>> state["potentials"].shape
        (10,)
    """

    def start(self) -> dict[str, np.ndarray]:
        """See `mltk.data.source.Proposer`: the potentials of the classes, ``(C,)``."""
        return {"potentials": np.zeros(len(self.class_names))}

    def draw(
        self, potentials: np.ndarray, allowed: np.ndarray, ways: int, rng: np.random.Generator
    ) -> np.ndarray:
        """See `ByClass.draw`."""
        return np.asarray(np.argsort(-perturbed(potentials, allowed, rng), axis=1)[:, :ways])

    def errors(self, classes: np.ndarray, given: np.ndarray, queries: np.ndarray) -> Errors:
        """See `ByClass.errors`."""
        return Errors((classes,), queries - np.diagonal(given, axis1=1, axis2=2), queries)
