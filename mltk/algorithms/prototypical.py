"""Prototypical networks."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import Literal

from mltk.algorithms.embedding_based import EmbeddingBased
from mltk.contracts import Model
from mltk.heads import PrototypicalHead


@dataclass(frozen=True)
class Prototypical(EmbeddingBased):
    """Prototypical networks: an embedding in which each class lies around its mean.

    Snell, Swersky & Zemel (2017), equations 1 and 2. The formulas stand with `mltk.heads.PrototypicalHead`.

    Attributes:
        embedding: The network; its outputs are vectors.
        distance: ``"sqeuclidean"`` or ``"cosine"``.
        temperature: What distances or similarities are divided by to give logits, or ``"learned"``.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.Prototypical(mltk.models.mlp([3, 16, 8]))
        >>> tasks, backend = mltk.data.Blobs(ways=3, shots=2, queries=4, separation=6), mltk.backend("numpy")
        >>> run = mltk.train(learner, tasks, backend=backend, steps=50)
        >>> mltk.evaluate(learner, run.meta_params, tasks, episodes=100).mean > 0.9
        True
    """

    embedding: Model
    _: KW_ONLY
    distance: Literal["sqeuclidean", "cosine"] = "sqeuclidean"
    temperature: float | Literal["learned"] = 1.0

    @cached_property
    def head(self) -> PrototypicalHead:
        """The class means, and the distances to them."""
        return PrototypicalHead(self.distance, self.temperature)
