r"""Tasks as vectors: how much each filter of an embedding matters for them.

Task2Vec (Achille et al. 2019) is the diagonal of the Fisher information of the embedding's parameters
$\theta$, the head fixed, averaged over the parameters of each filter:

$$F = \frac1N \sum_i \sum_k p(k \mid x_i) \, \big( \nabla_\theta \log p(k \mid x_i) \big)^2.$$

The paper draws labels from $p$; here the sum over them is exact, by one pullback for each class with every
example a task of its own. The head is that of `mltk.task_analysis.class_means`, learned from the support set.
The paper measures how complex a task is by $\|F\|_1$, and how far apart two are by the normalised cosine

$$d(a, b) = 1 - \cos\Big( \frac{F_a}{F_a + F_b}, \frac{F_b}{F_a + F_b} \Big).$$
"""

from __future__ import annotations

from collections.abc import Iterable

from mltk import tree
from mltk.backend import common_backend
from mltk.contracts import Model
from mltk.episode import Episode
from mltk.errors import ShapeError
from mltk.heads.linear import LinearSolution
from mltk.heads.similarity import normalize
from mltk.normalization import support_statistics
from mltk.ops.kernels import kernels_of
from mltk.task_analysis.class_means import class_means
from mltk.task_analysis.features import check_vectors, model_and_params
from mltk.task_analysis.fisher import check_of_its_own, mean_squares, of_labels
from mltk.task_analysis.hardness import check_classification
from mltk.tree import Array, Tree


def task2vec(episode: Episode, embedding: tuple[Model, Tree]) -> Array:
    """The vector of each task: see `mltk.task_analysis.task2vec`. It needs the support sets alone.

    Args:
        episode: Tasks of classification.
        embedding: A model and its parameters, which may be the meta-parameters of a learner with this model.

    Returns:
        ``(T, F)``: for each parameter array in turn, a number for each of its first axis: filters, units.

    Raises:
        SettingError: If the episode is regression, or the embedding has batch norms with the statistics of
            the current set, by which an example has no gradient of its own.
        MltkError: If the episode is not valid, or the embedding does not fit it.
    """
    check_classification(episode)
    model, params = model_and_params(episode, embedding)
    check_of_its_own("embedding", model)
    own = support_statistics(model, params, episode.support_x)
    xp, ways = episode.backend.xp, episode.ways or 0
    features = model.apply(own, episode.support_x)
    classifier = class_means(features, episode.support_y, ways)
    classifier = LinearSolution(*(xp.repeat(leaf, features.shape[1], axis=0) for leaf in classifier))

    def cotangents(features: Array) -> Iterable[tuple[Array, Array | None]]:
        for cotangent, weight in of_labels(classifier.predict(features)):
            yield cotangent @ classifier.weight, weight

    squares = mean_squares(episode.backend.engine, model, own, episode.support_x, cotangents)
    return xp.concat([_by_filter(leaf) for leaf in tree.leaves(squares)], axis=-1)


def task2vec_distances(vectors: Array) -> Array:
    """The normalised cosine distances of all pairs: see `mltk.task_analysis.task2vec`.

    Args:
        vectors: Those of `task2vec`, ``(T, F)``.

    Returns:
        ``(T, T)``, from 0 to 1; 1 where one of two vectors is zero.

    Raises:
        MltkError: If these are no finite vectors.
    """
    backend, xp = common_backend(vectors=[vectors]), kernels_of(vectors).xp
    if vectors.ndim != 2:
        raise ShapeError(f"vectors has shape {tuple(vectors.shape)}; expected (T, F)")
    check_vectors(backend, "vectors", vectors[None])
    a, b = vectors[:, None, :], vectors[None, :, :]
    both = a + b
    both = xp.where(both > 0, both, 1.0)
    one, other = normalize(a / both).unit, normalize(b / both).unit
    return kernels_of(one).at_least(1 - xp.sum(one * other, axis=-1), 0)


def _by_filter(leaf: Array) -> Array:
    """The mean over all but the first two axes: of ``(T, out, …)`` one number for each output."""
    xp = kernels_of(leaf).xp
    return xp.mean(xp.reshape(leaf, (*leaf.shape[:2], -1)), axis=-1)
