r"""What tasks are recognised by: one vector a task, and how alike two of them are.

- ``"adaptation"``: the displacement $\phi - \theta$ of the parameters by the learner's own adaptation.
- ``"fisher"``: the root of the exact diagonal Fisher information at the adapted parameters
  (`mltk.task_analysis.fisher`), of length one: the product of two of them is the Bhattacharyya coefficient
  of the diagonals. At the meta-parameters the information of a regression does not depend on the targets.
- ``"embedding"``: the mean of what reaches the model's last layer, before adaptation; for regression the mean
  of its products with the targets, since inputs alone say nothing of the task.

Two vectors are alike by

$$s(a, b) = \frac{2 \langle a, b \rangle}{\|a\|^2 + \|b\|^2} = 1 - \frac{\|a - b\|^2}{\|a\|^2 + \|b\|^2},$$

from -1 to 1: the cosine where both are of equal length, and less where one is longer. Tasks attend to
remembered ones as in matching networks (`mltk.heads.matching`), with weights
$\propto \exp (s / \tau)$ on the most similar.
"""

from __future__ import annotations

from collections.abc import Collection

from mltk import tree
from mltk.arguments import check_examples
from mltk.contracts import Learner, Model
from mltk.errors import SettingError, UnsupportedError
from mltk.models import Sequential
from mltk.normalization import support_statistics
from mltk.ops.kernels import kernels_of
from mltk.task_analysis.fisher import diagonal_fisher
from mltk.task_analysis.gradient_alignment import flattened
from mltk.tree import Array, Tree

KEYS = ("adaptation", "fisher", "embedding")
"""The keys that have a name."""


def displacement(moved: Tree, start: Tree) -> Array:
    """How far each task has moved from the start that all had, ``(T, P)``."""
    return flattened(tree.map(lambda after, before: after - before, moved, start))


def root_fisher(learner: Learner, state: Tree, x: Array, y: Array, names: Collection[str]) -> Array:
    """The root of the diagonal Fisher information for some parameters, of length one, ``(T, P)``."""
    model, xp = model_of(learner, "fisher"), kernels_of(x).xp
    fisher = diagonal_fisher(model, state, x, labels=bool(xp.isdtype(y.dtype, "integral")))
    rows = flattened(tree.select(fisher, names))
    total = xp.sum(rows, axis=-1, keepdims=True)
    return xp.sqrt(rows / xp.where(total > 0, total, 1.0))


def mean_embedding(learner: Learner, params: Tree, x: Array, y: Array) -> Array:
    """The mean of what reaches the last layer: of labels ``(T, d)``, of values ``(T, (d + 1) o)``."""
    model, xp = model_of(learner, "embedding"), kernels_of(x).xp
    if not isinstance(model, Sequential):
        raise UnsupportedError(
            f'key is "embedding", and the model is a {type(model).__name__}, whose last layer cannot be left '
            "out; expected a Sequential, or a function as key"
        )
    check_examples(model, "support_x", x)
    position = int(model.last_layer()[0].partition(".")[0])
    body = Sequential(model.layers[:position])
    features = body.apply(support_statistics(body, params, x), x)
    features = xp.reshape(features, (*features.shape[:2], -1))
    if xp.isdtype(y.dtype, "integral"):
        return xp.mean(features, axis=1)
    targets = xp.reshape(y, (*y.shape[:2], -1))
    with_one = xp.concat([features, xp.ones_like(features[..., :1])], axis=-1)
    return xp.reshape(with_one.mT @ targets / x.shape[1], (x.shape[0], -1))


def model_of(learner: Learner, key: str) -> Model:
    """The model of a learner.

    Raises:
        SettingError: If it has none that shows itself.
    """
    model: Model | None = getattr(learner, "model", None)
    if model is None:
        raise SettingError(
            f'key is "{key}", and {type(learner).__name__} has no attribute model; expected "adaptation", or '
            "a function from support_x and support_y to vectors (T, d)"
        )
    return model


def agreement(a: Array, b: Array) -> Array:
    """How alike vectors ``(T, d)`` and ``(J, d)`` are, ``(T, J)``: see `mltk.toolkit.task_keys`.

    Two zero vectors are not alike at all.
    """
    xp = kernels_of(a).xp
    squares = xp.sum(a * a, axis=-1)[:, None] + xp.sum(b * b, axis=-1)[None, :]
    return 2 * (a @ b.mT) / xp.where(squares > 0, squares, 1.0)


def attention(similarity: Array, neighbours: int, temperature: float) -> Array:
    """The weights of the most similar, ``(T, J)`` with sum one; the others have none, but equals all have."""
    xp = kernels_of(similarity).xp
    descending = -xp.sort(-similarity, axis=-1)
    least = descending[:, min(neighbours, similarity.shape[1]) - 1][:, None]
    weights = xp.exp((similarity - descending[:, :1]) / temperature)
    weights = xp.where(similarity >= least, weights, 0.0)
    return weights / xp.sum(weights, axis=-1, keepdims=True)
