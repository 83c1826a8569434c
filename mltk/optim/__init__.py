"""Outer optimisers: pure pairs ``init`` and ``update`` on trees, on any backend.

state = optimizer.init(params)
updates, state = optimizer.update(grads, state, params)
params = optim.apply_updates(params, updates)
"""

from mltk.optim import transforms
from mltk.optim.adam import Adam, AdamW
from mltk.optim.clipping import ClipByGlobalNorm
from mltk.optim.hypergradient import HypergradientDescent
from mltk.optim.idbd import IDBD
from mltk.optim.schedule import Cosine, LearningRate, StepDecay
from mltk.optim.sgd import SGD
from mltk.optim.updates import Chain, Transform, apply_updates, chain

__all__ = [
    "IDBD",
    "SGD",
    "Adam",
    "AdamW",
    "Chain",
    "ClipByGlobalNorm",
    "Cosine",
    "HypergradientDescent",
    "LearningRate",
    "StepDecay",
    "Transform",
    "apply_updates",
    "chain",
    "transforms",
]
