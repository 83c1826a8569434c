"""The features that tasks are measured by."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

from mltk.arguments import (
    check_examples,
    check_finite_on_host,
    check_label_of_each,
    check_labels,
    check_params,
    host_values,
)
from mltk.backend import check_same, common_backend
from mltk.checks import check_count
from mltk.contracts import Backend, Model
from mltk.embedding import embed, statistics_of_support
from mltk.episode import Episode, check_inputs
from mltk.errors import DtypeError, SettingError, ShapeError
from mltk.heads.calibrated import double
from mltk.models import check_model
from mltk.normalization import check_calibrated
from mltk.ops.kernels import kernels_of
from mltk.ops.one_hot import one_hot
from mltk.tree import Array, Tree

Features: TypeAlias = Callable[[Array], Array] | tuple[Model, Tree] | None
"""A function from inputs ``(T, N, *features)`` to vectors ``(T, N, d)``; a model and its parameters, which
may stand among the meta-parameters of a learner; or ``None`` for the inputs themselves, flattened."""


def embedded(episode: Episode, features: Features) -> tuple[Array, Array]:
    """The features of the support and of the query examples, ``(T, N, d)`` and ``(T, M, d)``.

    Both sets are embedded each by itself, as learners do when they predict.

    Args:
        episode: The tasks, whose values were checked.
        features: Where their features come from.

    Raises:
        SettingError: If ``features`` is nothing of this kind, or a batch norm lacks population statistics.
        ShapeError: If what comes out are not vectors, one an example.
        DtypeError: If these are not floating.
        MltkError: If the episode is not valid, or model and parameters do not fit it.
    """
    embed = _function(episode, features)
    sets = []
    for inputs in (episode.support_x, episode.query_x):
        vectors = embed(inputs)
        check_same(episode.backend, features=[vectors])
        if not episode.backend.xp.isdtype(vectors.dtype, "real floating"):
            raise DtypeError(f"features gives dtype {vectors.dtype}; expected floating numbers")
        if vectors.ndim != 3 or vectors.shape[:2] != inputs.shape[:2] or 0 in vectors.shape:
            expected = (*inputs.shape[:2], "d")
            raise ShapeError(f"features gives shape {tuple(vectors.shape)}; expected vectors {expected}")
        check_finite_on_host(episode.backend, "features", vectors)
        sets.append(vectors)
    support, query = sets
    return support, query


def _function(episode: Episode, features: Features) -> Callable[[Array], Array]:
    """From the inputs of a set to its features."""
    if features is None:
        return lambda x: episode.backend.xp.reshape(x, (*x.shape[:2], math.prod(x.shape[2:])))
    if not isinstance(features, tuple):
        if not callable(features):
            raise SettingError(
                f"features is {features!r}; expected None, a pair (model, params), or a function"
            )
        return features
    model, params = model_and_params(episode, features)
    own = statistics_of_support(model, params, episode.support_x)
    return lambda x: embed(model, own, x)


def model_and_params(episode: Episode, features: Any) -> tuple[Model, Tree]:
    """The pair ``(model, params)``, which was found to fit the episode."""
    if not isinstance(features, tuple) or len(features) != 2:
        found = f"a tuple of {len(features)}" if isinstance(features, tuple) else repr(features)
        raise SettingError(f"features is {found}; expected a pair (model, params)")
    model, params = features
    check_model("features", model)
    check_examples(model, "support_x", episode.support_x)
    check_params("features", params, model.shapes, episode.backend, beside="episode")
    check_calibrated(model, params)
    return model, params


def labelled(features: Array, labels: Array, ways: int, *, name: str = "features") -> tuple[Array, Array]:
    """Features in double precision, and their labels as one-hot numbers ``(T, N, ways)`` likewise.

    Args:
        features: Vectors ``(T, N, d)``, of any backend.
        labels: Integers ``(T, N)``.
        ways: Classes a task; some may have no example here.
        name: What errors call the features.

    Raises:
        ShapeError: If the arrays do not fit each other, or are empty.
        DtypeError: If features are not floating, or labels not integers.
        NotFiniteError: If, on the host, a feature is NaN or infinite.
        LabelError: If, on the host, a label lies outside ``0..ways-1``.
        MismatchError: If the arrays differ in library or device.
        SettingError: If ``ways`` is not a positive integer.
    """
    check_count("ways", ways)
    backend = common_backend(**{name: [features], "labels": [labels]})
    check_vectors(backend, name, features)
    check_label_of_each(backend, "labels", labels, features)
    if (known := host_values(backend, labels)) is not None:
        check_labels("labels", known, ways)
    x = double(features)
    return x, one_hot(labels, ways, x)


def without_scale(x: Array) -> Array:
    """Vectors ``(T, N, d)`` over the largest magnitude of their task: no square overflows."""
    xp = kernels_of(x).xp
    largest = xp.max(xp.abs(x), axis=(-2, -1), keepdims=True)
    return x / xp.where(largest > 0, largest, 1.0)


def check_vectors(backend: Backend, name: str, x: Array, *, like: Array | None = None) -> None:
    """Raise unless these are vectors ``(T, N, d)``, of as many tasks and as long as those of ``like``.

    Those on the host must be finite.
    """
    check_inputs(backend, name, x)
    if x.ndim != 3 or (like is not None and (x.shape[0], x.shape[2]) != (like.shape[0], like.shape[2])):
        expected = "(T, N, d)" if like is None else f"({like.shape[0]}, M, {like.shape[2]})"
        raise ShapeError(f"{name} has shape {tuple(x.shape)}; expected vectors {expected}")
    check_finite_on_host(backend, name, x)
