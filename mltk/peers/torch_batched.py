"""Torch autograd over all tasks at once: fully connected networks written with batched products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mltk import ops
from mltk.errors import UnsupportedError
from mltk.ops.activation import Activation
from mltk.peers.peer import Adapter, Case, Result

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TorchBatched(Adapter):
    """See `mltk.peers.Peer`."""

    name: str = "torch-batched"

    def prepare(self, case: Case) -> Callable[[], Result]:
        """See `mltk.peers.Peer.prepare`."""
        import torch

        from mltk.peers.torch_layers import layer_of
        from mltk.peers.torch_modules import torch_case

        _, _, (support_x, support_y, query_x, query_y) = torch_case(case)
        n_tasks = len(support_x)
        layers: list[tuple[str, Callable[[torch.Tensor], torch.Tensor] | None]] = []
        for name, operation in case.model.named_layers:
            if not isinstance(operation, ops.Linear | Activation):
                raise UnsupportedError("only fully connected networks are written with batched products")
            linear = isinstance(operation, ops.Linear)
            layers.append((name, None if linear else layer_of(operation)))
        initial = {name: torch.tensor(value, requires_grad=True) for name, value in case.params.items()}
        Params = dict[str, torch.Tensor]

        def apply(params: Params, x: torch.Tensor) -> torch.Tensor:
            for name, activation in layers:
                if activation is not None:
                    x = activation(x)
                    continue
                weight, bias = params[f"{name}.weight"].mT, params.get(f"{name}.bias")
                x = torch.bmm(x, weight) if bias is None else torch.baddbmm(bias[:, None, :], x, weight)
            return x

        def sum_of_losses(params: Params, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            outputs = apply(params, x)
            if case.loss == "mse":
                return (outputs - y).square().mean((1, 2)).sum()
            return torch.nn.functional.cross_entropy(outputs.mT, y, reduction="sum") / y.shape[1]

        def meta_gradient() -> Result:
            params = {name: p.expand(n_tasks, *p.shape) for name, p in initial.items()}
            for _ in range(case.inner_steps):
                value = sum_of_losses(params, support_x, support_y)
                grads = torch.autograd.grad(value, list(params.values()), create_graph=not case.first_order)
                params = {
                    name: p - case.inner_lr * g for (name, p), g in zip(params.items(), grads, strict=True)
                }
            value = sum_of_losses(params, query_x, query_y) / n_tasks
            grads = torch.autograd.grad(value, list(initial.values()))
            return value.detach(), dict(zip(initial, grads, strict=True))

        return meta_gradient
