"""`torch.func`: the meta-gradient of one task by nested `grad`, all tasks at once by `vmap`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mltk.peers.peer import Adapter, Case, Result


@dataclass(frozen=True)
class TorchFunc(Adapter):
    """See `mltk.peers.Peer`."""

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
