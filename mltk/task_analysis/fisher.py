r"""The diagonal of the Fisher information, exactly: squared gradients of each example, averaged.

With the outputs $f(x)$ and their Jacobian $J_i = \partial f(x_i) / \partial\theta$, labels of probabilities
$p = \operatorname{softmax} f$, and values of a Gaussian around $f$ with variance 1 (of another variance
$\sigma^2$ it is $\sigma^{-2}$ times as much):

$$F = \frac1N \sum_i \sum_k p_{ik} \big( J_i^\top (e_k - p_i) \big)^2, \qquad
  F = \frac1N \sum_i \sum_k \big( J_i^\top e_k \big)^2.$$

The second follows from $\nabla_\theta \log p(y \mid x) = J^\top (y - f)$ and
$\operatorname{E} (y - f)(y - f)^\top = I$: targets, like labels in the first, are those of the model and not
of the data. Each sum over $k$ takes one pullback for each output, with every example a task of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mltk import tree
from mltk.backend import backend_of
from mltk.contracts import Engine, Model
from mltk.errors import SettingError, ShapeError
from mltk.normalization import modes, support_statistics
from mltk.ops.kernels import kernels_of
from mltk.ops.one_hot import one_hot
from mltk.optim.transforms.granularity import along_tasks
from mltk.task_analysis.class_means import probabilities
from mltk.tree import Array, Tree

Cotangents = Callable[[Array], Iterable[tuple[Array, Array | None]]]
"""From outputs ``(T, 1, d)`` to cotangents like them, each with what its squares are multiplied by, ``(T,)``;
``None`` for 1."""


def diagonal_fisher(model: Model, params: Tree, x: Array, *, labels: bool) -> Tree:
    """The diagonal of the Fisher information of each task: see `mltk.task_analysis.fisher`.

    Args:
        model: A model whose outputs are vectors.
        params: Its parameters, each with or without a task axis.
        x: Inputs ``(T, N, *features)``.
        labels: Whether its outputs are logits of classes, or else the values of a regression.

    Returns:
        A tree like the model's parameters, with a task axis.

    Raises:
        SettingError: If the model has batch norms with the statistics of the current set: an example has no
            gradient of its own then.
        ShapeError: If its outputs are no vectors.
    """
    check_of_its_own("model", model)

    def cotangents(outputs: Array) -> Iterable[tuple[Array, Array | None]]:
        if outputs.ndim != 3:
            raise ShapeError(f"model has outputs of shape {tuple(outputs.shape)}; expected vectors (T, N, d)")
        return of_labels(outputs) if labels else of_values(outputs)

    own = support_statistics(model, params, x)
    return mean_squares(backend_of(own).engine, model, own, x, cotangents)


def check_of_its_own(name: str, model: Model) -> None:
    """Raise `SettingError` unless each example has a gradient of its own."""
    if "batch" in modes(model):
        raise SettingError(
            f'{name} has batch norms with statistics="batch"; expected "support" or "population", '
            "or none: with them an example has no gradient of its own"
        )


def of_labels(outputs: Array) -> Iterable[tuple[Array, Array | None]]:
    """The gradient of the logarithm of each class's probability, and that probability."""
    shares = probabilities(outputs)
    for wanted in _units(outputs):
        yield wanted - shares, kernels_of(shares).sum(shares, (-2, -1), times=wanted)


def of_values(outputs: Array) -> Iterable[tuple[Array, Array | None]]:
    """A one for each output."""
    for wanted in _units(outputs):
        yield wanted, None


def _units(outputs: Array) -> Iterable[Array]:
    """For each output, arrays like them all with a one there."""
    xp, width = kernels_of(outputs).xp, outputs.shape[-1]
    for place in range(width):
        labels = xp.full(outputs.shape[:2], place, dtype=xp.int64, device=outputs.device)
        yield one_hot(labels, width, outputs)


def mean_squares(engine: Engine, model: Model, params: Tree, x: Array, cotangents: Cotangents) -> Tree:
    """The squared pullbacks of some cotangents, summed, and averaged over the examples of a task.

    Args:
        engine: Where derivatives come from.
        model: The model.
        params: Its parameters, each with or without a task axis.
        x: Inputs ``(T, N, *features)``.
        cotangents: Of its outputs.

    Returns:
        A tree like the model's parameters, with a task axis.
    """
    xp, (tasks, examples) = kernels_of(x).xp, x.shape[:2]
    alone = xp.reshape(x, (tasks * examples, 1, *x.shape[2:]))
    outputs, pullback = engine.vjp(model, _repeated(model, params, examples), alone)
    total: Tree | None = None
    for cotangent, weight in cotangents(outputs):
        squares = tree.map(lambda leaf: leaf * leaf, pullback(cotangent))
        if weight is not None:
            squares = tree.map(lambda leaf, w=weight: along_tasks(w, leaf) * leaf, squares)
        total = squares if total is None else tree.map(lambda a, b: a + b, total, squares)
    assert total is not None
    return tree.map(lambda leaf: xp.mean(xp.reshape(leaf, (tasks, examples, *leaf.shape[1:])), axis=1), total)


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
