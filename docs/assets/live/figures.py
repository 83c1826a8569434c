"""The Python of the live figures, run in the page, and where the site is built."""

from __future__ import annotations

import numpy as np

import mltk

GRID = np.linspace(-5, 5, 81)
"""Where fits are drawn."""

BACKEND = mltk.backend("numpy", dtype="float64")
TASKS = mltk.data.Sinusoid(shots=10, queries=10)
META_BATCH = 4
MODEL = mltk.models.mlp([1, 40, 40, 1], activation="tanh")
TRAINED = 3000
"""Meta-training steps behind what is recorded."""


def sinusoid_maml(rate: float = 0.02, steps: int = 5, first_order: bool = False) -> mltk.algorithms.MAML:
    """The learner of the sinusoids, with these settings of the inner loop."""
    return mltk.algorithms.MAML(MODEL, "mse", inner_lr=rate, inner_steps=steps, first_order=first_order)


def fits(meta, maml, support_x, support_y, grid=GRID):
    """The network on the grid before and after each inner step, ``(T, steps + 1, points)``.

    Args:
        meta: Meta-parameters.
        maml: The learner.
        support_x: Inputs ``(T, N, 1)``.
        support_y: Targets ``(T, N, 1)``.
        grid: Inputs ``(points,)``.
    """
    x = np.broadcast_to(grid[:, None], (len(support_x), len(grid), 1))
    found = []
    for steps in range(maml.inner_steps + 1):
        learner = sinusoid_maml(maml.inner_lr, steps)
        found.append(learner.predict(learner.adapt(meta, support_x, support_y), x)[..., 0])
    return np.stack(found, axis=1)
