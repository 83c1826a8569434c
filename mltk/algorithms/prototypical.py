"""Prototypical networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mltk.algorithms.embedding_based import EmbeddingBased
from mltk.heads.prototypes import PrototypicalHead, PrototypicalSettings


@dataclass(frozen=True)
class Prototypical(PrototypicalSettings, EmbeddingBased):
    """Prototypical networks: an embedding in which each class lies around its mean.

    Snell, Swersky & Zemel (2017), equations 1 and 2. Formulas and settings stand with
    `mltk.heads.PrototypicalHead`.

    Attributes:
        embedding: The network; its outputs are vectors.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.Prototypical(mltk.models.mlp([3, 16, 8]))
        >>> tasks, backend = mltk.data.Blobs(ways=3, shots=2, queries=4, separation=6), mltk.backend("numpy")
        >>> run = mltk.train(learner, tasks, backend=backend, steps=50)
        >>> mltk.evaluate(learner, run.meta_params, tasks, episodes=100).mean > 0.9
        True
    """

    head_type: ClassVar[type[Any]] = PrototypicalHead
