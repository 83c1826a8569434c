"""What users of Torch write without another library, by itself or with `torch.func`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mltk import ops
from mltk.errors import UnsupportedError
from mltk.ops.activation import Activation
from mltk.peers.peer import Adapter, Case, Result

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TorchFunc(Adapter):
    """`torch.func`: the meta-gradient of one task by nested `grad`, all tasks at once by `vmap`."""

    name: str = "torch-func"

    def prepare(self, case: Case) -> Callable[[], Result]:
        """See `mltk.peers.Peer.prepare`."""
        import torch
        from torch.func import functional_call, grad, grad_and_value, vmap

        from mltk.peers.torch_modules import torch_case

        module, loss, tasks = torch_case(case)
        initial = {name: p.detach() for name, p in module.named_parameters()}
        Params = dict[str, torch.Tensor]

        def loss_of(params: Params, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return loss(functional_call(module, params, (x,)), y)

        def query_loss(
            params: Params,
            support_x: torch.Tensor,
            support_y: torch.Tensor,
            query_x: torch.Tensor,
            query_y: torch.Tensor,
        ) -> torch.Tensor:
            for _ in range(case.inner_steps):
                grads = grad(loss_of)(params, support_x, support_y)
                if case.first_order:
                    grads = {name: g.detach() for name, g in grads.items()}
                params = {name: p - case.inner_lr * grads[name] for name, p in params.items()}
            return loss_of(params, query_x, query_y)

        per_task = vmap(grad_and_value(query_loss), in_dims=(None, 0, 0, 0, 0))

        def meta_gradient() -> Result:
            grads, values = per_task(initial, *tasks)
            return values.mean(), {name: g.mean(0) for name, g in grads.items()}

        return meta_gradient


@dataclass(frozen=True)
class TorchLoop(Adapter):
    """One task after the other with ``create_graph=True``: what the usual libraries do inside."""

    name: str = "torch-loop"

    def prepare(self, case: Case) -> Callable[[], Result]:
        """See `mltk.peers.Peer.prepare`."""
        import torch
        from torch.func import functional_call

        from mltk.peers.torch_modules import task_by_task, torch_case

        module, loss, tasks = torch_case(case)
        params: dict[str, torch.Tensor] = dict(module.named_parameters())

        def query_loss(support_x: Any, support_y: Any, query_x: Any, query_y: Any) -> Any:
            fast = params
            for _ in range(case.inner_steps):
                value = loss(functional_call(module, fast, (support_x,)), support_y)
                grads = torch.autograd.grad(value, list(fast.values()), create_graph=not case.first_order)
                fast = {name: p - case.inner_lr * g for (name, p), g in zip(fast.items(), grads, strict=True)}
            return loss(functional_call(module, fast, (query_x,)), query_y)

        return task_by_task(params, tasks, query_loss)


@dataclass(frozen=True)
class TorchBatched(Adapter):
    """Torch autograd over all tasks at once: fully connected networks written with batched products."""

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


@dataclass(frozen=True)
class TorchPrototypical(Adapter):
    """Prototypical networks with squared distances (Snell et al. 2017) and Adam, as users write them.

    What it prepares is a training step. It returns the loss and the gradient before the step.

    Attributes:
        name: What the benchmark calls it.
        channels_last: Whether images and weights are laid out channels-last in memory.
    """

    name: str = "torch-loop"
    channels_last: bool = False

    def prepare(self, case: Case) -> Callable[[], Result]:
        """See `mltk.peers.Peer.prepare`."""
        import torch

        from mltk.peers.torch_modules import task_by_task, torch_case

        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        module, loss, (support_x, support_y, query_x, query_y) = torch_case(case)
        module.to(memory_format=layout)  # type: ignore[call-overload]  # Torch's own overloads lack it
        images = [task.contiguous(memory_format=layout) for task in torch.cat([support_x, query_x], dim=1)]
        rows = support_y.shape[1]
        optimizer = torch.optim.Adam(module.parameters())

        def query_loss(x: torch.Tensor, support_labels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            support, query = module(x).tensor_split([rows])
            counts = support_labels.bincount()
            sums = support.new_zeros(len(counts), support.shape[1]).index_add(0, support_labels, support)
            prototypes = sums / counts[:, None]
            return loss(-torch.cdist(query, prototypes).square(), labels)

        parts = (images, support_y, query_y)
        meta_gradient = task_by_task(dict(module.named_parameters()), parts, query_loss)

        def step() -> Result:
            result = meta_gradient()
            optimizer.step()
            return result

        return step
