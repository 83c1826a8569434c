"""Plain Torch, one task after the other with ``create_graph=True``: what the usual libraries do inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mltk.peers.peer import Adapter, Case, Result


@dataclass(frozen=True)
class TorchLoop(Adapter):
    """See `mltk.peers.Peer`."""

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
