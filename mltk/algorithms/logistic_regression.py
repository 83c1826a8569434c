"""LR-D2: logistic regression on an embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mltk.algorithms.embedding_based import EmbeddingBased
from mltk.heads.logistic import LogisticHead, LogisticSettings


@dataclass(frozen=True)
class LogisticRegression(LogisticSettings, EmbeddingBased):
    r"""LR-D2: an embedding on which logistic regression, by Newton steps, generalises from the support set.

    Bertinetto, Henriques, Torr & Vedaldi (2019), section 3.3; for classification only. Each class has a
    regression against the rest, and the cross-entropy of their logits, times a learned scale, is the loss.
    Formulas and settings stand with `mltk.heads.LogisticHead`.

    Attributes:
        embedding: The network; its outputs are vectors.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.LogisticRegression(mltk.models.mlp([3, 16, 8]))
        >>> tasks, backend = mltk.data.Blobs(ways=3, shots=2, queries=4, separation=6), mltk.backend("numpy")
        >>> run = mltk.train(learner, tasks, backend=backend, steps=50)
        >>> mltk.evaluate(learner, run.meta_params, tasks, episodes=100).mean > 0.9
        True
    """

    head_type: ClassVar[type[Any]] = LogisticHead
