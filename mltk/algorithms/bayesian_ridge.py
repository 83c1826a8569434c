"""Bayesian ridge regression on an embedding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

from mltk.algorithms.embedding_based import EmbeddingBased
from mltk.errors import ShapeError
from mltk.heads.bayesian import BayesianRidgeHead, BayesianRidgeSettings
from mltk.heads.calibrated import double
from mltk.heads.evidence import Prediction, bayesian_ridge
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class BayesianRidge(BayesianRidgeSettings, EmbeddingBased):
    r"""An embedding on which Bayesian linear regression generalises from the support set, knowing its doubt.

    As `RidgeRegression`, but the regulariser is that of the largest evidence (MacKay 1992) in each task, and
    is not learned: $\lambda = \alpha / \beta$, the precision of the prior over that of the noise, which all
    outputs share. Meta-training goes through the choice of it. Classes are regressed on one-hot targets, and
    the cross-entropy of the outputs, times a learned scale, is the loss. For regression set ``scale=1.0``.
    Formulas stand with `mltk.heads.BayesianRidgeHead`.

    One example of each class says nothing of the noise: to the evidence one-hot targets that are all
    different are noise themselves, and weights are zero. Such tasks are refused.

    Attributes:
        embedding: The network; its outputs are vectors.

    Examples:
        >>> import mltk
        >>> learner = mltk.algorithms.BayesianRidge(mltk.models.mlp([1, 20, 20]), scale=1.0)
        >>> tasks, backend = mltk.data.Sinusoid(shots=5, queries=50), mltk.backend("numpy")
        >>> run = mltk.train(learner, tasks, backend=backend, steps=50)
        >>> episode = tasks.sample(8, 0, backend)
        >>> state = learner.adapt(run.meta_params, episode.support_x, episode.support_y)
        >>> found = learner.predictive(state, episode.query_x)
        >>> found.mean.shape, bool((found.epistemic > 0).all())
        ((8, 50, 1), True)
    """

    head_type: ClassVar[type[Any]] = BayesianRidgeHead

    def _target(self, y: Array, ways: int | None, like: Array) -> Array:
        if ways is not None and y.shape[-1] <= ways:
            raise ShapeError(
                f"support_y has {y.shape[-1]} labels of {ways} classes, of which the evidence tells nothing; "
                "expected more examples than classes, or RidgeRegression, whose regulariser is learned"
            )
        return super()._target(y, ways, like)

    def predictive(self, state: Tree, query_x: Array) -> Prediction:
        """The Gaussian predictive distribution of the outputs, in double precision.

        Its mean is what `predict` gives; the variance is that of the regression, times the squared scale. Of
        classes it is that of a regression on one-hot targets, before the softmax.

        Args:
            state: As from ``adapt``.
            query_x: Inputs ``(T, M, *features)``.

        Raises:
            MltkError: If the arguments do not fit each other or the embedding.
        """
        mean = double(self.predict(state, query_x))
        fitted, scale = state["fitted"], cast(BayesianRidgeHead, self.head).scale_of(state["head"])
        query = self._embed(state["embedding"], query_x)
        found = bayesian_ridge(fitted["support"], fitted["target"], query, shared=True)
        return Prediction(mean, scale**2 * found.aleatoric, scale**2 * found.epistemic)
