"""How sure a classifier is of queries whose labels nobody knows."""

from __future__ import annotations

from mltk.backend import common_backend
from mltk.ops.kernels import kernels_of
from mltk.task_analysis.class_means import probabilities
from mltk.task_analysis.features import check_vectors
from mltk.tree import Array


def mean_confidence(logits: Array) -> Array:
    """The probability of the most probable class, averaged over the queries.

    Hendrycks & Gimpel (2017, *A baseline for detecting misclassified and out-of-distribution examples*), as
    an estimate of a task's accuracy: what a calibrated classifier's would be.

    Args:
        logits: Of the queries of each task, ``(T, M, ways)``, of any backend.

    Returns:
        ``(T,)``, from one over the ways to 1.

    Raises:
        MltkError: If these are no finite vectors.
    """
    check_vectors(common_backend(logits=[logits]), "logits", logits)
    xp = kernels_of(logits).xp
    return xp.mean(xp.max(probabilities(logits), axis=-1), axis=-1)
