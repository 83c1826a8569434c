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

from typing import Any

from mltk import tree
from mltk.backend import common_backend
from mltk.contracts import Model
from mltk.episode import Episode
from mltk.errors import SettingError, ShapeError
from mltk.heads.linear import LinearSolution
from mltk.heads.similarity import normalize
from mltk.normalization import modes, support_statistics
from mltk.ops.kernels import kernels_of
from mltk.ops.one_hot import one_hot
from mltk.task_analysis.class_means import class_means, probabilities
from mltk.task_analysis.features import check_vectors, model_and_params
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
    if "batch" in modes(model):
        raise SettingError(
            'embedding has batch norms with statistics="batch"; expected "support" or "population", '
            "or none: with them an example has no gradient of its own"
        )
    own = support_statistics(model, params, episode.support_x)
    xp, ways = episode.backend.xp, episode.ways or 0
    features = model.apply(own, episode.support_x)
    classifier = class_means(features, episode.support_y, ways)
    tasks, examples = episode.support_x.shape[:2]
    alone = xp.reshape(episode.support_x, (tasks * examples, 1, *episode.support_x.shape[2:]))
    classifier = LinearSolution(*(xp.repeat(leaf, examples, axis=0) for leaf in classifier))
    own = _repeated(model, own, examples)
    features, pullback = episode.backend.engine.vjp(model, own, alone)
    shares = probabilities(classifier.predict(features))
    total: Array = 0.0
    for label in range(ways):
        wanted = one_hot(xp.full((1, 1), label, dtype=xp.int64, device=features.device), ways, features)
        gradient = pullback((wanted - shares) @ classifier.weight)
        weight = shares[:, 0, label]
        parts = [_by_filter(leaf * leaf) * weight[:, None] for leaf in tree.flatten(gradient).values()]
        total = total + xp.concat(parts, axis=-1)
    return xp.mean(xp.reshape(total, (tasks, examples, -1)), axis=1)


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


def _repeated(model: Model, params: Tree, examples: int) -> Tree:
    """Parameters for tasks of one example each: those with a task axis, once for each of its examples."""
    shapes: dict[str, Any] = {**getattr(model, "constant_shapes", {}), **model.shapes}
    flat = {name: leaf for name, leaf in tree.flatten(params).items() if name in shapes}
    return tree.unflatten(
        {
            name: kernels_of(leaf).xp.repeat(leaf, examples, axis=0)
            if leaf.ndim > len(shapes[name])
            else leaf
            for name, leaf in flat.items()
        }
    )
