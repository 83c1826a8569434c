"""What the Torch peers share: the same network, loss and data as plain Torch objects."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from mltk import ops
from mltk.errors import UnsupportedError
from mltk.models import Sequential
from mltk.ops import Operation
from mltk.peers.peer import Case, customary

LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mse": functional.mse_loss,
    "cross_entropy": functional.cross_entropy,
}

ACTIVATIONS: dict[type[Operation], type[nn.Module]] = {
    ops.ReLU: nn.ReLU,
    ops.Tanh: nn.Tanh,
    ops.Sigmoid: nn.Sigmoid,
    ops.SiLU: nn.SiLU,
    ops.Flatten: nn.Flatten,
}


class TorchCase(NamedTuple):
    """A case as plain Torch objects.

    Attributes:
        module: The network, in training mode, holding the initial parameters.
        loss: Mean loss of outputs and targets.
        tasks: For each task its support inputs and targets and its query inputs and targets.
    """

    module: nn.Sequential
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    tasks: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def torch_case(case: Case) -> TorchCase:
    """Convert a case.

    Raises:
        UnsupportedError: If the model has an operation that has no counterpart here.
    """
    params = {name: torch.tensor(value) for name, value in case.params.items()}
    module = module_of(case.model).to(next(iter(params.values())).dtype)
    module.load_state_dict(params)
    episode = case.episode
    arrays = (episode.support_x, episode.support_y, episode.query_x, episode.query_y)
    support_x, support_y, query_x, query_y = (torch.tensor(array) for array in arrays)
    return TorchCase(module, LOSSES[case.loss], (support_x, support_y, query_x, query_y))


def module_of(model: Sequential) -> nn.Sequential:
    """The same network with the same state-dict names; batch norm uses the current set alone.

    Raises:
        UnsupportedError: If an operation has no counterpart here.
    """
    return nn.Sequential(*(_layer(operation) for operation in customary(model).layers))


def _layer(operation: Operation) -> nn.Module:
    if type(operation) in ACTIVATIONS:
        return ACTIVATIONS[type(operation)]()
    match operation:
        case ops.Linear():
            return nn.Linear(operation.in_features, operation.out_features, operation.bias)
        case ops.Convolution():
            return nn.Conv2d(
                operation.in_channels,
                operation.out_channels,
                operation.kernel_size,
                operation.stride,
                operation.padding,
                bias=operation.bias,
            )
        case ops.BatchNorm(spatial_axes=0):
            return nn.BatchNorm1d(operation.features, operation.eps, track_running_stats=False)
        case ops.BatchNorm():
            return nn.BatchNorm2d(operation.features, operation.eps, track_running_stats=False)
        case ops.MaxPool():
            return nn.MaxPool2d(operation.kernel_size, operation.stride, operation.padding)
    raise UnsupportedError(f"the Torch peers have no counterpart of {operation!r}")
