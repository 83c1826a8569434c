"""Reptile: the direction is the way that inner gradient descent went."""

import numpy as np
import pytest
from assertions import agree

import mltk
from mltk import tree
from mltk.algorithms import MAML, Reptile

MODEL = mltk.models.mlp([1, 8, 8, 1], activation="tanh")


@pytest.mark.parametrize("inner_batch", [None, 2, 3])
def test_direction_is_the_displacement_over_the_step(backend64, inner_batch):
    algorithm = Reptile(MODEL, "mse", inner_lr=0.05, inner_steps=4, inner_batch=inner_batch)
    episode = mltk.data.Sinusoid(6, 5).sample(3, 0, backend64)
    meta = algorithm.init(backend64, 0)
    _, direction = algorithm.value_and_grad(meta, episode)
    state = algorithm.adapt(meta, episode.support_x, episode.support_y)
    for name, found in tree.flatten(direction).items():
        start, end = (backend64.to_numpy(tree.flatten(t)[name]) for t in (meta, state))
        np.testing.assert_allclose(backend64.to_numpy(found), (start - end.mean(0)) / 0.05, atol=1e-13)


def test_mini_batches_are_consecutive_support_examples(backend64):
    """Two steps of half the set each are MAML's single steps on the halves, one after the other."""
    algorithm = Reptile(MODEL, "mse", inner_lr=0.05, inner_steps=3, inner_batch=3)
    episode = mltk.data.Sinusoid(6, 5).sample(2, 0, backend64)
    meta = algorithm.init(backend64, 0)
    one = MAML(MODEL, "mse", inner_lr=0.05)
    state = meta
    for rows in (slice(0, 3), slice(3, 6), slice(0, 3)):
        state = one.adapt(state, episode.support_x[:, rows], episode.support_y[:, rows])
    found = algorithm.adapt(meta, episode.support_x, episode.support_y)
    agree(found, state, rtol=1e-13, atol=1e-15)
