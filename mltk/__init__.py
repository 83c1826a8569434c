"""mltk: the meta-learning reference, exact on NumPy by hand-derived gradients and fast on Torch."""

from mltk import algorithms, data, evaluation, models, ops, optim, tree
from mltk.backend import backend, backend_of
from mltk.episode import Episode
from mltk.evaluation import evaluate
from mltk.training import train

__all__ = [
    "Episode",
    "algorithms",
    "backend",
    "backend_of",
    "data",
    "evaluate",
    "evaluation",
    "models",
    "ops",
    "optim",
    "train",
    "tree",
]
