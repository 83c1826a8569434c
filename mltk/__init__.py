"""mltk: the meta-learning reference, exact on NumPy by hand-derived gradients and fast on Torch."""

from mltk import algorithms, data, models, ops, tree
from mltk.backend import backend, backend_of
from mltk.episode import Episode

__all__ = ["Episode", "algorithms", "backend", "backend_of", "data", "models", "ops", "tree"]
