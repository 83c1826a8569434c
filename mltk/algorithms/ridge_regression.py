"""R2-D2: ridge regression on an embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mltk.algorithms.embedding_based import EmbeddingBased
from mltk.heads.ridge import RidgeHead, RidgeSettings


@dataclass(frozen=True)
class RidgeRegression(RidgeSettings, EmbeddingBased):
    r"""R2-D2: an embedding on which ridge regression, in closed form, generalises from the support set.

    Bertinetto, Henriques, Torr & Vedaldi (2019), section 3.2. Classes are regressed on one-hot targets,
    and the cross-entropy of the outputs, times a learned scale, is the loss. For regression set
    ``scale=1.0``. Formulas and settings stand with `mltk.heads.RidgeHead`.

    Attributes:
        embedding: The network; its outputs are vectors.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.RidgeRegression(mltk.models.mlp([3, 16, 8]))
        >>> tasks, backend = mltk.data.Blobs(ways=3, shots=2, queries=4, separation=6), mltk.backend("numpy")
        >>> run = mltk.train(learner, tasks, backend=backend, steps=50)
        >>> mltk.evaluate(learner, run.meta_params, tasks, episodes=100).mean > 0.9
        True
    """

    head_type: ClassVar[type[Any]] = RidgeHead
