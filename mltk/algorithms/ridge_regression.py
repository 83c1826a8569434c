"""R2-D2: ridge regression on an embedding."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import cached_property

from mltk.algorithms.embedding_based import EmbeddingBased
from mltk.contracts import Model
from mltk.heads import RidgeHead


@dataclass(frozen=True)
class RidgeRegression(EmbeddingBased):
    r"""R2-D2: an embedding on which ridge regression, in closed form, generalises from the support set.

    Bertinetto, Henriques, Torr & Vedaldi (2019), section 3.2. The formulas stand with `mltk.heads.RidgeHead`.
    Classes are regressed on one-hot targets, and the cross-entropy of the outputs, times a learned scale, is
    the loss. For regression set ``scale=1.0``.

    Attributes:
        embedding: The network; its outputs are vectors.
        reg_lambda: The regulariser $\lambda$, or its start if learned; not scaled by the number of examples.
        use_woodbury: Solve systems as large as the support set (``True``), as an embedding (``False``), or
            the smaller of the two (``None``). The results are the same.
        intercept: Whether there is a bias, which is not penalised.
        scale: What outputs are multiplied by, or its start if learned.
        learn_scale: Whether the scale is learned.
        learn_bias: Whether a number that is added to all outputs is learned, from 0.
        learn_lambda: Whether $\lambda$ is learned, by its logarithm.

    Raises:
        SettingError: If a setting is not valid.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.RidgeRegression(mltk.models.mlp([3, 16, 8]))
        >>> tasks, backend = mltk.data.Blobs(ways=3, shots=2, queries=4, separation=6), mltk.backend("numpy")
        >>> run = mltk.train(learner, tasks, backend=backend, steps=50)
        >>> mltk.evaluate(learner, run.meta_params, tasks, episodes=100).mean > 0.9
        True
    """

    embedding: Model
    _: KW_ONLY
    reg_lambda: float = 0.01
    use_woodbury: bool | None = None
    intercept: bool = False
    scale: float = 10.0
    learn_scale: bool = True
    learn_bias: bool = True
    learn_lambda: bool = True

    @cached_property
    def head(self) -> RidgeHead:
        """The closed-form solution, and the calibration of its outputs."""
        return RidgeHead(
            self.reg_lambda,
            use_woodbury=self.use_woodbury,
            intercept=self.intercept,
            scale=self.scale,
            learn_scale=self.learn_scale,
            learn_bias=self.learn_bias,
            learn_lambda=self.learn_lambda,
        )
