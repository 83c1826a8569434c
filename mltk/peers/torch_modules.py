"""What the Torch peers share: the same network, loss and data as plain Torch objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from mltk import ops
from mltk.errors import UnsupportedError
from mltk.models import Sequential
from mltk.peers.peer import Case, Result, customary
from mltk.peers.torch_layers import layer_of

LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mse": functional.mse_loss,
    "cross_entropy": functional.cross_entropy,
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


def task_by_task(
    params: Mapping[str, torch.Tensor], tasks: Sequence[Any], query_loss: Callable[..., torch.Tensor]
) -> Callable[[], Result]:
    """The mean query loss and its gradient, one task after the other.

    Args:
        params: What the gradient is for, by name.
        tasks: The parts of all tasks, as in `TorchCase`.
        query_loss: Takes a task; its result has a graph back to the parameters.
    """

    def meta_gradient() -> Result:
        for p in params.values():
            p.grad = None
        total = torch.zeros((), dtype=next(iter(params.values())).dtype)
        for task in zip(*tasks, strict=True):
            value = query_loss(*task) / len(tasks[0])
            torch.autograd.backward(value)
            total += value.detach()
        return total, {name: p.grad for name, p in params.items()}

    return meta_gradient


def module_of(model: Sequential) -> nn.Sequential:
    """The same network with the same state-dict names; batch norm uses the current set alone.

    Raises:
        UnsupportedError: If an operation has no counterpart in Torch.
    """
    layers = []
    for operation in customary(model).layers:
        if isinstance(operation, ops.BatchNorm):  # in training, population statistics are the current set's
            operation = replace(operation, statistics="batch")
        layer = layer_of(operation)
        if layer is None:
            raise UnsupportedError(f"the Torch peers have no counterpart of {operation!r}")
        layers.append(layer)
    return nn.Sequential(*layers)
