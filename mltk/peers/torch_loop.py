"""Plain Torch, one task after the other with ``create_graph=True``: what the usual libraries do inside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mltk.peers.peer import Case, Result, missing


@dataclass(frozen=True)
class TorchLoop:
    """See `mltk.peers.Peer`."""

    name: str = "torch-loop"

    def available(self) -> str | None:
        """See `mltk.peers.Peer.available`."""
        return missing("torch")

    def prepare(self, case: Case) -> Callable[[], Result]:
        """See `mltk.peers.Peer.prepare`."""
        import torch
        from torch.func import functional_call

        from mltk.peers.torch_modules import torch_case

        module, loss, tasks = torch_case(case)
        params: dict[str, torch.Tensor] = dict(module.named_parameters())

        def meta_gradient() -> Result:
            module.zero_grad(set_to_none=True)
            total = torch.zeros((), dtype=tasks[0].dtype)
            for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
                fast = params
                for _ in range(case.inner_steps):
                    value = loss(functional_call(module, fast, (support_x,)), support_y)
                    grads = torch.autograd.grad(value, list(fast.values()), create_graph=not case.first_order)
                    fast = {
                        name: p - case.inner_lr * g for (name, p), g in zip(fast.items(), grads, strict=True)
                    }
                value = loss(functional_call(module, fast, (query_x,)), query_y) / len(tasks[0])
                torch.autograd.backward(value)
                total += value.detach()
            return total, {name: p.grad for name, p in params.items()}

        return meta_gradient
