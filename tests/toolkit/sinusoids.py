"""Sinusoids whose amplitudes and phases are known, and learners of them."""

from functools import cache

import numpy as np

import mltk

GRID = np.linspace(-5, 5, 200)


@cache
def trained(steps=1000, library="numpy", **settings):
    """MAML that was trained on sinusoids, and its meta-parameters in float64."""
    maml = mltk.algorithms.MAML(mltk.models.mlp([1, 40, 40, 1]), "mse", **settings)
    backend = mltk.backend(library, dtype="float64")
    tasks = mltk.data.Sinusoid(shots=10, queries=20)
    run = mltk.train(maml, tasks, backend=backend, steps=steps, meta_batch=8, progress=False)
    return maml, run.meta_params


def drawn(tasks, shots, seed, curve=np.sin):
    """Support sets of curves ``A f(x + b)``, as arrays, and the curves on a grid."""
    rng = np.random.default_rng(seed)
    amplitude, phase = (rng.uniform(*ends, (tasks, 1, 1)) for ends in ((0.1, 5.0), (0.0, np.pi)))
    x = rng.uniform(-5, 5, (tasks, shots, 1))
    curves = amplitude * curve(GRID[None, :, None] + phase)
    return x, amplitude * curve(x + phase), curves[..., 0]


def distances(one, other):
    """The mean squared distance of all pairs of curves."""
    return ((one[:, None] - other[None]) ** 2).mean(-1)


def errors(learner, params, x, y, curves):
    """The mean squared error of each task on the whole curve after adaptation."""
    grid = np.broadcast_to(GRID[None, :, None], (len(x), len(GRID), 1))
    return ((learner.predict(learner.adapt(params, x, y), grid)[..., 0] - curves) ** 2).mean(1)


def interval(differences):
    """The mean of paired differences, and half of its 95 % interval."""
    return differences.mean(), 1.96 * differences.std(ddof=1) / len(differences) ** 0.5
