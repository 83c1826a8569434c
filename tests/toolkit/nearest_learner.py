"""A learner of one's own that keeps what it was shown, and what it is asked with."""

import numpy as np


def noisy(x, rng):
    """A view of vectors."""
    return x + rng.normal(0, 0.3, x.shape).astype(x.dtype)


def arrays(episode):
    return episode.support_x, episode.support_y, episode.query_x


class Nearest:
    """A learner of one's own, which keeps what it was shown."""

    def __init__(self):
        self.support, self.query = [], []

    def init(self, backend, seed):
        return {}

    def adapt(self, meta_params, support_x, support_y):
        self.support.append(np.array(support_x))
        return support_x, support_y, meta_params

    def predict(self, state, query_x):
        self.query.append(np.array(query_x))
        x, y, meta_params = state
        near = -np.sum((query_x[:, :, None] - x[:, None]) ** 2, axis=-1) * meta_params.get("sure", 1.0)
        return np.stack([near[:, :, y[0] == k].max(axis=-1) for k in range(y.max() + 1)], axis=-1)

    def value_and_grad(self, meta_params, episode):
        raise NotImplementedError


def sorted_by_label(episode):
    """The same episode with the labels of all tasks in the same order, as `Nearest` wants it."""
    order = np.argsort(episode.support_y, axis=1, kind="stable")[..., None]
    x = np.take_along_axis(episode.support_x, order, axis=1)
    return x, np.sort(episode.support_y, axis=1), episode.query_x
