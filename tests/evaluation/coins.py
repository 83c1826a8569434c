"""Learners that know the answer with a probability of one's choice, and tasks for them."""

from dataclasses import dataclass

import numpy as np

import mltk


@dataclass(frozen=True)
class Coin:
    """Tasks whose accuracies are what a learner makes them."""

    queries: int = 10

    def sample(self, n_tasks, rng, backend):
        rng = np.random.default_rng(rng)
        x = rng.normal(size=(n_tasks, 2 + self.queries, 1))
        labels = np.tile([0, 1], (n_tasks, 1 + self.queries // 2))
        arrays = (x[:, :2], labels[:, :2], x[:, 2:], labels[:, 2:])
        return mltk.Episode(*map(backend.asarray, arrays), ways=2, backend=backend)


@dataclass(frozen=True)
class Knowing:
    """Gives the right answer, an alternation of 0 and 1, with a probability."""

    part: float
    seed: int

    def adapt(self, meta_params, support_x, support_y):
        return None

    def predict(self, state, query_x):
        # By the inputs alone, so that the same task always gets the same answer.
        hashed = np.sin(12345.678 * (1 + self.seed) * query_x[..., 0]) * 1000
        right = hashed - np.floor(hashed) < self.part
        labels = np.where(right, np.arange(query_x.shape[1]) % 2, 1 - np.arange(query_x.shape[1]) % 2)
        return 1.0 * (labels[..., None] == np.arange(2))
