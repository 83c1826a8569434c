r"""Where the variance of an episode's metric comes from: tasks, support draws, query draws and starts.

The metric is known for each task $t$, each of its supports $r$ and query sets $q$, crossed, and each
start $s$, the meta-parameters of a training. Supports and queries are nested in tasks, starts are crossed
with all. In the random-effects model each set of indices has an effect of its own. With the mean squares
$M_E$ of a balanced analysis of variance, $E[M_E] = \sum_{F \supseteq E} n_F \sigma_F^2$, $n_F$ the values
that share an effect of $F$ (Searle, Casella & McCulloch 1992), which is solved from the finest effect on:
the estimators are unbiased, and so may be negative.
"""

from __future__ import annotations

import numpy as np

from mltk.arguments import numbers
from mltk.errors import ShapeError

EFFECTS = {
    "tasks": "t",
    "support draws": "tr",
    "query draws": "tq",
    "support and query draws together": "trq",
    "starts": "s",
    "starts and tasks together": "ts",
    "starts and support draws together": "trs",
    "starts and query draws together": "tqs",
    "starts, support and query draws together": "trqs",
}
"""The effects by name, each with its indices."""

AXES = "trqs"


def variance_components(values: np.ndarray) -> dict[str, float]:
    """Unbiased estimates of the variance that each effect adds.

    Args:
        values: The metric ``(T, R, Q, S)``, at least 2 of all but starts; where there is one start, its
            effects are left out.

    Returns:
        Variances by the names of `EFFECTS`; their sum is the variance of the metric of one new episode.

    Raises:
        ShapeError: If the values are not of this shape.
        NotFiniteError: If one is NaN or infinite.
    """
    values = numbers("values", values, *AXES.upper())
    if min(values.shape[:3]) < 2:
        raise ShapeError(f"values has shape {values.shape}; expected 2 tasks, supports and queries at least")
    sizes = dict(zip(AXES, values.shape, strict=True))
    effects = {name: axes for name, axes in EFFECTS.items() if sizes["s"] > 1 or "s" not in axes}
    found: dict[str, float] = {}
    for name, axes in sorted(effects.items(), key=lambda item: -len(item[1])):
        square, freedom = _sum_of_squares(values, axes)
        rest = square / freedom
        for other, component in found.items():
            if set(axes) < set(effects[other]):
                rest -= component * _sharing(sizes, effects[other])
        found[name] = rest / _sharing(sizes, axes)
    return {name: float(found[name]) for name in effects}


def _sharing(sizes: dict[str, int], axes: str) -> int:
    """How many values share one effect."""
    return int(np.prod([size for axis, size in sizes.items() if axis not in axes]))


def _sum_of_squares(values: np.ndarray, axes: str) -> tuple[float, int]:
    """That of an effect, and its degrees of freedom: supports and queries are not centred across tasks."""
    dropped = tuple(place for place, axis in enumerate(AXES) if axis not in axes)
    effect = values.mean(axis=dropped, keepdims=True)
    freedom = 1
    centred = [axis for axis in axes if axis != "t" or not set(axes) & set("rq")]
    for axis in axes:
        freedom *= values.shape[AXES.index(axis)] - (axis in centred)
    for axis in centred:
        effect = effect - effect.mean(axis=AXES.index(axis), keepdims=True)
    return float(np.sum(np.broadcast_to(effect, values.shape) ** 2)), freedom
