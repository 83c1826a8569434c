"""Task sources: anything that samples episodes."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mltk.backend import Backend
from mltk.episode import Episode


class TaskSource(Protocol):
    """What training and evaluation need of data."""

    def sample(self, n_tasks: int, rng: int | np.random.Generator, backend: Backend) -> Episode:
        """Draw ``n_tasks`` tasks at once; the same seed gives the same tasks on every backend."""


def regression_episode(x: np.ndarray, y: np.ndarray, shots: int, backend: Backend) -> Episode:
    """An episode whose first ``shots`` examples of each task are its support set.

    Args:
        x: Inputs ``(T, N, *features)``.
        y: Targets ``(T, N, d)``.
        shots: Support examples a task.
        backend: Where the arrays go.
    """
    x, y = backend.asarray(x), backend.asarray(y)
    return Episode(x[:, :shots], y[:, :shots], x[:, shots:], y[:, shots:], backend=backend)
