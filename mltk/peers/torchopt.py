"""`torchopt` (Ren et al. 2023): `MetaSGD` on a module, whose state is put back for the next task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mltk.errors import UnsupportedError
from mltk.peers.peer import Case, Result, missing


@dataclass(frozen=True)
class TorchOpt:
    """See `mltk.peers.Peer`."""

    name: str = "torchopt"

    def available(self) -> str | None:
        """See `mltk.peers.Peer.available`."""
        return missing("torch") or missing("torchopt")

    def prepare(self, case: Case) -> Callable[[], Result]:
        """See `mltk.peers.Peer.prepare`.

        Raises:
            UnsupportedError: For first-order MAML: `MetaSGD` always keeps the graph.
        """
        import torch
        import torchopt

        from mltk.peers.torch_modules import torch_case

        if case.first_order:
            raise UnsupportedError("torchopt.MetaSGD always differentiates through its steps")
        module, loss, tasks = torch_case(case)
        initial = dict(module.named_parameters())
        optimizer = torchopt.MetaSGD(module, lr=case.inner_lr)
        start = torchopt.extract_state_dict(module, by="reference")
        optimizer_start = torchopt.extract_state_dict(optimizer)

        def meta_gradient() -> Result:
            total = torch.zeros((), dtype=tasks[0].dtype)
            for p in initial.values():
                p.grad = None
            for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
                for _ in range(case.inner_steps):
                    optimizer.step(loss(module(support_x), support_y))
                value = loss(module(query_x), query_y) / len(tasks[0])
                torch.autograd.backward(value)
                total += value.detach()
                torchopt.recover_state_dict(module, start)
                torchopt.recover_state_dict(optimizer, optimizer_start)
            return total, {name: p.grad for name, p in initial.items()}

        return meta_gradient
