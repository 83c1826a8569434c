"""What a pass sees of the examples: a random view of them, or a support set drawn anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mltk.data.images.jitter import Jitter, affine
from mltk.errors import SettingError, ShapeError

View = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""From examples ``(n, *features)`` on the host and a generator to others of the same shape."""


def check_views(name: str, value: Any) -> None:
    """Raise `SettingError` unless the setting can be called."""
    if not callable(value) or isinstance(value, type):
        raise SettingError(f"{name} is {value!r}; expected mltk.data.Jitter() or a function of (x, rng)")


def alike(views: View, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """All examples in the same view.

    Args:
        views: What distorts them.
        x: Examples ``(n, *features)``.
        rng: What the view is drawn with; each example finds it in the same state.

    Raises:
        ShapeError: If an example changes its shape.
    """
    if isinstance(views, Jitter):
        matrices, translations = (np.repeat(each, len(x), axis=0) for each in views.maps(1, rng))
        return affine(x.astype(np.float32), matrices, translations)
    start = rng.bit_generator.state
    seen = []
    for row in x:
        rng.bit_generator.state = start
        seen.append(np.asarray(views(row[None], rng)))
        if seen[-1].shape != (1, *row.shape):
            raise ShapeError(f"views gave an example of shape {seen[-1].shape}; expected {(1, *row.shape)}")
    return np.concatenate(seen).astype(x.dtype)


def resampled(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """As many examples, drawn with replacement, of each class as it has.

    Args:
        x: Support inputs ``(T, N, *features)``.
        y: Labels ``(T, N)``, or values ``(T, N, d)``, of which there are no classes.
        rng: Draws the same places for each task.
    """
    uniform = rng.random(x.shape[1])
    if y.dtype.kind in "iu":
        order = np.argsort(y, axis=1, kind="stable")
        label = np.take_along_axis(y, order, axis=1)
        sizes = (label[:, :, None] == label[:, None]).sum(axis=2)
        starts = (label[:, :, None] > label[:, None]).sum(axis=2)
        chosen = np.take_along_axis(order, starts + (uniform * sizes).astype(np.int64), axis=1)
    else:
        chosen = np.tile((uniform * x.shape[1]).astype(np.int64), (len(x), 1))
    tasks = np.arange(len(x))[:, None]
    return x[tasks, chosen], y[tasks, chosen]
