"""Operations: the vocabulary of models, each with its value and three derivatives by hand."""

from mltk.ops.activation import ReLU, Sigmoid, SiLU, Tanh
from mltk.ops.attention import Attention
from mltk.ops.batch_norm import BatchNorm
from mltk.ops.convolution import Convolution
from mltk.ops.layer_norm import LayerNorm
from mltk.ops.linear import Linear
from mltk.ops.loss import CrossEntropy, Loss, MeanSquaredError, loss
from mltk.ops.lstm import LSTM
from mltk.ops.operation import Operation
from mltk.ops.pooling import AveragePool, Flatten, GlobalAveragePool, MaxPool
from mltk.ops.rows import DropRows

__all__ = [
    "LSTM",
    "Attention",
    "AveragePool",
    "BatchNorm",
    "Convolution",
    "CrossEntropy",
    "DropRows",
    "Flatten",
    "GlobalAveragePool",
    "LayerNorm",
    "Linear",
    "Loss",
    "MaxPool",
    "MeanSquaredError",
    "Operation",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Tanh",
    "loss",
]
