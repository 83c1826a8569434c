"""Matching networks."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property

from mltk.algorithms.embedding_based import EmbeddingBased
from mltk.checks import Count, Flag
from mltk.contracts import Model
from mltk.errors import SettingError
from mltk.heads import FullContextMatchingHead, MatchingHead


@dataclass(frozen=True)
class Matching(EmbeddingBased):
    """Matching networks: the label of a query is that of the examples which its embedding points at.

    Vinyals, Blundell, Lillicrap, Kavukcuoglu & Wierstra (2016). The outputs are log-probabilities, so this is
    for classification only. The formulas stand with `mltk.heads.MatchingHead` and
    `mltk.heads.FullContextMatchingHead`. With the full context, predictions depend on the order of the
    support set.

    Attributes:
        embedding: The network; its outputs are vectors.
        full_context: Whether LSTMs embed each example in the context of the support set.
        processing_steps: How often the LSTM over a query attends to the support set.
        features: How many numbers an embedding has, which the LSTMs must know; ``None`` asks the embedding.
        temperature: What cosines are divided by before the softmax, at least 0.03. The paper has 1, at which
            no probability comes near 1.

    Raises:
        SettingError: If a setting is not valid, or nobody says how many numbers an embedding has.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.Matching(mltk.models.mlp([3, 16, 8]), temperature=0.2)
        >>> tasks, backend = mltk.data.Blobs(ways=3, shots=2, queries=4, separation=6), mltk.backend("numpy")
        >>> run = mltk.train(learner, tasks, backend=backend, steps=50)
        >>> mltk.evaluate(learner, run.meta_params, tasks, episodes=100).mean > 0.9
        True
    """

    embedding: Model
    _: KW_ONLY
    full_context: Flag = False
    processing_steps: Count = 3
    features: Count | None = None
    temperature: float = 1.0

    @cached_property
    def head(self) -> MatchingHead | FullContextMatchingHead:
        """Cosine attention to the support set, with the LSTMs of the full context in front if asked for."""
        if not self.full_context:
            return MatchingHead(self.temperature)
        known = getattr(self.embedding, "out_features", None)
        features = known if self.features is None else self.features
        if features is None:
            raise SettingError(
                "features is None, and the embedding does not say how many numbers its outputs have; "
                "expected features=..., which full_context=True needs"
            )
        if known not in (None, features):
            raise SettingError(f"features is {features}; expected {known}, as the outputs of the embedding")
        return FullContextMatchingHead(features, self.processing_steps, self.temperature)
