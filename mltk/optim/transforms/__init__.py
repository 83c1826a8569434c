"""Learnable transforms of gradients, for inner loops: each with its pullback by hand."""

from mltk.optim.transforms.scale import Scale
from mltk.optim.transforms.transform import GradientTransform

__all__ = ["GradientTransform", "Scale"]
