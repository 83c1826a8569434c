"""Operations: the vocabulary of models, each with its value and three derivatives by hand."""

from mltk.ops.activation import ReLU, Sigmoid, SiLU, Tanh
from mltk.ops.attention import Attention
from mltk.ops.batch_norm import BatchNorm
from mltk.ops.convolution import Convolution
from mltk.ops.cross_entropy import BinaryCrossEntropy, CrossEntropy
from mltk.ops.dice import MagicBox
from mltk.ops.distributions import Categorical, Distribution, Gaussian
from mltk.ops.function_loss import FunctionLoss
from mltk.ops.huber import SmoothL1
from mltk.ops.layer_norm import LayerNorm
from mltk.ops.linear import Linear
from mltk.ops.linear_map import DropRows, Flatten
from mltk.ops.loss import Loss, MeanSquaredError
from mltk.ops.lstm import LSTM
from mltk.ops.named_losses import LossLike, loss
from mltk.ops.operation import Operation, Tangent
from mltk.ops.policy_loss import LogLikelihood, PolicyLoss
from mltk.ops.pooling import AveragePool, GlobalAveragePool, MaxPool

__all__ = [
    "LSTM",
    "Attention",
    "AveragePool",
    "BatchNorm",
    "BinaryCrossEntropy",
    "Categorical",
    "Convolution",
    "CrossEntropy",
    "Distribution",
    "DropRows",
    "Flatten",
    "FunctionLoss",
    "Gaussian",
    "GlobalAveragePool",
    "LayerNorm",
    "Linear",
    "LogLikelihood",
    "Loss",
    "LossLike",
    "MagicBox",
    "MaxPool",
    "MeanSquaredError",
    "Operation",
    "PolicyLoss",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "SmoothL1",
    "Tangent",
    "Tanh",
    "loss",
]
