r"""The classifier that measures of an embedding ask about: by class means, which takes no training.

For squared distances to the means $c_k$ of the support features it is linear in a query $q$ (Snell, Swersky &
Zemel 2017, section 2.4), since $\|q\|^2$ is the same for all classes:

$$p(k \mid q) = \operatorname{softmax}_k(2 \langle c_k, q \rangle - \|c_k\|^2).$$
"""

from __future__ import annotations

from mltk import ops
from mltk.contracts import Engine, Model
from mltk.heads.linear import LinearSolution
from mltk.heads.prototypes import PrototypicalHead
from mltk.ops.kernels import kernels_of
from mltk.ops.one_hot import one_hot
from mltk.tree import Array, Tree


def class_means(support: Array, support_y: Array, ways: int) -> LinearSolution:
    """The classifier for support features ``(T, N, d)`` and their labels ``(T, N)``."""
    means = PrototypicalHead().fit({}, support, one_hot(support_y, ways, support))["prototypes"]
    return LinearSolution(2 * means, -kernels_of(means).sum(means, (-1,), times=means))


def loss_gradient(
    engine: Engine, model: Model, params: Tree, classifier: LinearSolution, x: Array, y: Array
) -> Tree:
    """The gradient of the mean cross-entropy, the classifier fixed, with respect to the embedding, per task.

    Args:
        engine: Where derivatives come from.
        model: The embedding.
        params: Its parameters.
        classifier: Of its features.
        x: Inputs ``(T, N, *features)``.
        y: Their labels ``(T, N)``.
    """
    features, pullback = engine.vjp(model, params, x)
    loss, wanted = ops.loss("cross_entropy"), {"target": y}
    _, residuals = loss.forward(wanted, classifier.predict(features))
    _, cotangent = loss.vjp(wanted, residuals, 1.0)
    return pullback(cotangent @ classifier.weight)


def probabilities(logits: Array) -> Array:
    """The softmax over the last axis."""
    xp = kernels_of(logits).xp
    exponentials = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
    return exponentials / xp.sum(exponentials, axis=-1, keepdims=True)
