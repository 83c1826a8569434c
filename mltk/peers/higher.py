"""`higher` (Grefenstette et al. 2019): its `innerloop_ctx` around a module and an optimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mltk.peers.peer import Adapter, Case, Result


@dataclass(frozen=True)
class Higher(Adapter):
    """See `mltk.peers.Peer`."""

    needs = ("torch", "higher")
    name: str = "higher"

    def prepare(self, case: Case) -> Callable[[], Result]:
        """See `mltk.peers.Peer.prepare`."""
        import higher
        import torch

        from mltk.peers.torch_modules import torch_case

        module, loss, tasks = torch_case(case)
        optimizer = torch.optim.SGD(module.parameters(), lr=case.inner_lr)
        names = [name for name, _ in module.named_parameters()]

        def meta_gradient() -> Result:
            total = torch.zeros((), dtype=tasks[0].dtype)
            sums: list[torch.Tensor] | None = None
            for support_x, support_y, query_x, query_y in zip(*tasks, strict=True):
                with higher.innerloop_ctx(
                    module, optimizer, copy_initial_weights=False, track_higher_grads=not case.first_order
                ) as (fast, differentiable):
                    for _ in range(case.inner_steps):
                        differentiable.step(loss(fast(support_x), support_y))
                    value = loss(fast(query_x), query_y) / len(tasks[0])
                    # Without higher gradients the fast weights are cut from the initial ones, and first-order
                    # MAML takes the gradient where the inner loop ended.
                    inputs = fast.parameters() if case.first_order else module.parameters()
                    grads = torch.autograd.grad(value, list(inputs))
                sums = list(grads) if sums is None else [s + g for s, g in zip(sums, grads, strict=True)]
                total += value.detach()
            return total, dict(zip(names, sums or [], strict=True))

        return meta_gradient
