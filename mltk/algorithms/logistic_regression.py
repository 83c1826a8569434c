"""LR-D2: logistic regression on an embedding."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property

from mltk.algorithms.embedding_based import EmbeddingBased
from mltk.contracts import Model
from mltk.heads import LogisticHead


@dataclass(frozen=True)
class LogisticRegression(EmbeddingBased):
    r"""LR-D2: an embedding on which logistic regression, by Newton steps, generalises from the support set.

    Bertinetto, Henriques, Torr & Vedaldi (2019), section 3.3; for classification only. Each class has a
    regression against the rest, and the cross-entropy of their logits, times a learned scale, is the loss.
    The formulas stand with `mltk.heads.LogisticHead`.

    Attributes:
        embedding: The network; its outputs are vectors.
        reg_lambda: The regulariser $\lambda$, or its start if learned; not scaled by the number of examples.
        steps: Newton steps.
        scale: What logits are multiplied by, or its start if learned.
        learn_scale: Whether the scale is learned.
        learn_bias: Whether a number that is added to all logits is learned, from 0.
        learn_lambda: Whether $\lambda$ is learned, by its logarithm.

    Raises:
        SettingError: If a setting is not valid.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.LogisticRegression(mltk.models.mlp([3, 16, 8]))
        >>> tasks, backend = mltk.data.Blobs(ways=3, shots=2, queries=4, separation=6), mltk.backend("numpy")
        >>> run = mltk.train(learner, tasks, backend=backend, steps=50)
        >>> mltk.evaluate(learner, run.meta_params, tasks, episodes=100).mean > 0.9
        True
    """

    embedding: Model
    _: KW_ONLY
    reg_lambda: float = 1.0
    steps: int = 5
    scale: float = 1.0
    learn_scale: bool = True
    learn_bias: bool = True
    learn_lambda: bool = True

    @cached_property
    def head(self) -> LogisticHead:
        """The Newton steps, and the calibration of the logits."""
        return LogisticHead(
            self.reg_lambda,
            steps=self.steps,
            scale=self.scale,
            learn_scale=self.learn_scale,
            learn_bias=self.learn_bias,
            learn_lambda=self.learn_lambda,
        )
