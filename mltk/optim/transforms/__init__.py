"""Learnable transforms of gradients, for inner loops: each with its pullback by hand."""

from mltk.optim.transforms.backtrack import Backtrack
from mltk.optim.transforms.bias import Bias
from mltk.optim.transforms.chain import Chain, chain
from mltk.optim.transforms.clip import Clip
from mltk.optim.transforms.gradient_transform import GradientTransform
from mltk.optim.transforms.kronecker import Kronecker
from mltk.optim.transforms.meta_curvature import MetaCurvature
from mltk.optim.transforms.momentum import Momentum
from mltk.optim.transforms.network import Network
from mltk.optim.transforms.scale import Scale

__all__ = [
    "Backtrack",
    "Bias",
    "Chain",
    "Clip",
    "GradientTransform",
    "Kronecker",
    "MetaCurvature",
    "Momentum",
    "Network",
    "Scale",
    "chain",
]
