"""`learn2learn` (Arnold et al. 2020): its `MAML` around a module, with ``clone`` and ``adapt``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mltk.peers.peer import Case, Result, missing


@dataclass(frozen=True)
class Learn2Learn:
    """See `mltk.peers.Peer`."""

    name: str = "learn2learn"

    def available(self) -> str | None:
        """See `mltk.peers.Peer.available`."""
        return missing("torch") or missing("learn2learn")

    def prepare(self, case: Case) -> Callable[[], Result]:
        """See `mltk.peers.Peer.prepare`."""
        import learn2learn
        import torch

        from mltk.peers.torch_modules import torch_case

        module, loss, tasks = torch_case(case)
        maml = learn2learn.algorithms.MAML(module, lr=case.inner_lr, first_order=case.first_order)

        def meta_gradient() -> Result:
            maml.zero_grad(set_to_none=True)
            total = torch.zeros((), dtype=tasks[0].dtype)
            for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
                learner = maml.clone()
                for _ in range(case.inner_steps):
                    learner.adapt(loss(learner(support_x), support_y))
                value = loss(learner(query_x), query_y) / len(tasks[0])
                torch.autograd.backward(value)
                total += value.detach()
            return total, {name: p.grad for name, p in module.named_parameters()}

        return meta_gradient
