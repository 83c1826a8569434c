"""The statistics of a model's batch norms: from the support set, or exact over a population of sets.

The functions take any model and the tree that holds its parameters, and change nothing but the leaves
``running_mean`` and ``running_var`` (the variance is biased) of `mltk.ops.BatchNorm`. What has no such layer,
as a wrapped `torch.nn.Module`, passes through unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from mltk import tree
from mltk.arguments import check_values
from mltk.backend import backend_of
from mltk.checks import Count, CountOrZero, checked
from mltk.contracts import Model
from mltk.data.source import Tasks
from mltk.episode import Episode
from mltk.errors import SettingError, ShapeError, TreeError
from mltk.models import Sequential
from mltk.ops import BatchNorm, DropRows, Operation
from mltk.ops.standardization import moments
from mltk.tree import Array, Tree

ENOUGH_EXAMPLES = 1000
"""How many examples population statistics come from, at least, unless told otherwise."""


def modes(model: Model) -> frozenset[str]:
    """The ``statistics`` of a model's batch norms; empty if it has none."""
    return frozenset(layer.statistics for _, layer in _batch_norms(model))


def with_support_rows(model: Model, rows: int) -> Model:
    """A model whose ``"support"`` batch norms take their statistics from the first examples of a set.

    Args:
        model: The model; it is not changed.
        rows: How many support examples stand in front of the queries.
    """
    if not isinstance(model, Sequential) or "support" not in modes(model):
        return model
    return Sequential(_with_rows(layer, rows) for layer in model.layers)


def _with_rows(layer: Operation, rows: int) -> Operation:
    if isinstance(layer, BatchNorm) and layer.statistics == "support":
        return replace(layer, rows=rows)
    return layer


def behind_support(model: Model, episode: Episode) -> tuple[Model, Array]:
    """A model, and inputs for it, whose outputs are those for the queries as the support set normalises them.

    Args:
        model: The model.
        episode: The tasks.

    Returns:
        The model and the queries as they are, unless it has ``"support"`` batch norms. With them the support
        set stands in front of the queries, and its outputs are dropped.
    """
    if not isinstance(model, Sequential) or "support" not in modes(model):
        return model, episode.query_x
    rows, inputs = episode.support_x.shape[1], [episode.support_x, episode.query_x]
    layers = [_with_rows(layer, rows) for layer in model.layers]
    layers.append(DropRows(rows, model.output_axes(episode.query_x.ndim - 2)))
    return Sequential(layers), episode.backend.xp.concat(inputs, axis=1)


def support_statistics(model: Model, params: Tree, x: Array) -> Tree:
    """Parameters beside which the statistics of a support set stand, for each ``"support"`` batch norm.

    With them the model normalises whatever it is applied to as `with_support_rows` does behind this support
    set, up to rounding.

    Args:
        model: The model.
        params: Its parameters, each with or without a task axis.
        x: Support inputs ``(T, N, *features)``.

    Returns:
        The tree with leaves ``running_mean`` and ``running_var`` of shape ``(T, C)``, which take the place of
        old ones.
    """
    if not isinstance(model, Sequential) or "support" not in modes(model):
        return params
    found = dict(params)
    last = _batch_norms(model)[-1][0]
    for name, layer in model.named_layers:
        own = found.get(name, {})
        if isinstance(layer, BatchNorm) and layer.statistics == "support":
            mean, variance = (layer.per_channel(moment) for moment in moments(x, layer.axes))
            own = found[name] = {**own, "running_mean": mean, "running_var": variance}
        if name == last:
            break
        x, _ = layer.forward(own, x)
    return found


def calibrate(model: Model, params: Tree, sets: Iterable[Array]) -> Tree:
    """Parameters beside which exact population statistics stand, for each ``"population"`` batch norm.

    They are what the model's batch norms would find if the examples of all sets stood in one: layer by layer
    in order, each from the outputs of the layers before it. The outputs of one layer are kept for all sets at
    once: for 1,000 images of 28×28 pixels and 64 channels these are 200 MB in float32, and twice as many for
    a moment. Means over a set are taken in its own dtype, and put together in float64 (Chan, Golub & LeVeque
    1983), so nothing cancels.

    Args:
        model: The model.
        params: Its parameters, without a task axis.
        sets: Inputs, each ``(T, N, *features)`` with any T and N: every example counts alike.

    Returns:
        The tree with leaves ``running_mean`` and ``running_var`` of shape ``(C,)``, which take the place of
        old ones.

    Raises:
        ShapeError: If there is no set.
    """
    if not isinstance(model, Sequential) or "population" not in modes(model):
        return params
    held = list(sets)
    if not held:
        raise ShapeError("sets is empty; expected at least one array of inputs")
    backend = backend_of(params)
    found = without_statistics(model, params)
    last = _batch_norms(model)[-1][0]
    for name, layer in model.named_layers:
        own = found.get(name, {})
        if isinstance(layer, BatchNorm) and layer.statistics == "population":
            axes = (0, *layer.axes)
            parts = []
            for x in held:
                mean, variance = (backend.to_numpy(layer.per_channel(m))[0] for m in moments(x, axes))
                parts.append((math.prod(x.shape[axis] for axis in axes), mean, variance))
            mean, variance = _pooled(parts)
            statistics = {"running_mean": backend.asarray(mean), "running_var": backend.asarray(variance)}
            own = found[name] = {**own, **statistics}
        if name == last:
            break
        for position, x in enumerate(held):
            held[position], _ = layer.forward(own, x)
    return found


@checked
def calibrate_on_tasks(
    model: Model,
    params: Tree,
    tasks: Tasks,
    *,
    episodes: Count | None = None,
    seed: CountOrZero = 0,
) -> Tree:
    """`calibrate` on the support and query sets of sampled tasks.

    Args:
        model: The model.
        params: Its parameters, without a task axis; other leaves stay as they are.
        tasks: Where tasks come from: those of training.
        episodes: How many tasks; ``None`` for as many as hold 1,000 examples.
        seed: The tasks are drawn from ``numpy.random.SeedSequence(seed, spawn_key=(2,))``, so that none of
            them is drawn by `mltk.train` or `mltk.evaluate`.

    Raises:
        SettingError: If a setting is not valid.
    """
    if "population" not in modes(model):
        return params
    return calibrate(model, params, _drawn(tasks, params, episodes, seed))


def without_statistics(model: Model, params: Tree, *, of: str | None = None) -> Tree:
    """Parameters without the constants of batch norms, which normalise by the current set again.

    Args:
        model: The model.
        params: Its parameters.
        of: Which ``statistics`` the batch norms have that it is about; ``None`` for all of them.
    """
    layers = [(name, layer) for name, layer in _batch_norms(model) if of in (None, layer.statistics)]
    return tree.without(params, [f"{name}.{key}" for name, layer in layers for key in layer.constant_shapes])


def check_calibrated(model: Model, params: Tree) -> None:
    """Check the constants of batch norms, those that predictions need and those that are there.

    Raises:
        SettingError: If a ``"population"`` batch norm has none.
        TreeError: If a constant is not ``(C,)`` or ``(T, C)``, or stands alone.
    """
    for name, layer in _batch_norms(model):
        held = {key: params[name][key] for key in layer.constant_shapes if key in params.get(name, {})}
        for key, leaf in held.items():
            if leaf.ndim not in (1, 2) or leaf.shape[-1] != layer.features or len(held) == 1:
                raise TreeError(
                    f"'{name}.{key}' has shape {tuple(leaf.shape)}, beside {', '.join(held)}; "
                    f"expected {' and '.join(layer.constant_shapes)} of shape ({layer.features},)"
                )
        if layer.statistics == "population" and not held:
            raise SettingError(
                f'the batch norm "{name}" takes population statistics, and the meta-parameters hold none; '
                "expected those that algorithm.calibrate(meta_params, tasks) returns, or mltk.train"
            )


def _batch_norms(model: Model) -> list[tuple[str, BatchNorm]]:
    layers = model.named_layers if isinstance(model, Sequential) else ()
    return [(name, layer) for name, layer in layers if isinstance(layer, BatchNorm)]


def _drawn(tasks: Tasks, params: Tree, episodes: int | None, seed: int) -> Iterator[Array]:
    """Support and query inputs of one task after the other."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,)))
    backend = backend_of(params)
    drawn, examples = 0, 0
    while examples < ENOUGH_EXAMPLES if episodes is None else drawn < episodes:
        episode = tasks.sample(1, rng, backend)
        check_values(episode)
        both = backend.xp.concat([episode.support_x, episode.query_x], axis=1)
        drawn, examples = drawn + 1, examples + both.shape[1]
        yield both


def _pooled(parts: list[tuple[int, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of all numbers, from the count, mean and variance of each part."""
    counts = np.array([count for count, _, _ in parts], dtype=np.float64)
    shares = (counts / counts.sum())[:, None]
    means = np.stack([mean for _, mean, _ in parts]).astype(np.float64)
    variances = np.stack([variance for _, _, variance in parts]).astype(np.float64)
    mean = (shares * means).sum(axis=0)
    return mean, (shares * (variances + (means - mean) ** 2)).sum(axis=0)
