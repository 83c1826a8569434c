"""A small module on any backend, and examples for it."""

import numpy as np
from routes import NUMPY

from mltk.models import mlp
from mltk.modules.module import Module

MODEL = mlp([2, 3, 1], activation="tanh")
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((5, 2)), RNG.standard_normal((5, 1))


def module_on(backend=NUMPY, **options):
    return Module(MODEL, MODEL.init(backend, seed=1), backend=backend, **options)
