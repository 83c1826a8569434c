"""`torchopt` (Ren et al. 2023): `MetaSGD` on a module, whose state is put back before each task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mltk.errors import UnsupportedError
from mltk.peers.peer import Adapter, Case, Result


@dataclass(frozen=True)
class TorchOpt(Adapter):
    """See `mltk.peers.Peer`."""

    needs = ("torch", "torchopt")
    name: str = "torchopt"

    def prepare(self, case: Case) -> Callable[[], Result]:
        """See `mltk.peers.Peer.prepare`.

        Raises:
            UnsupportedError: For first-order MAML: `MetaSGD` always keeps the graph.
        """
        import torchopt

        from mltk.peers.torch_modules import task_by_task, torch_case

        if case.first_order:
            raise UnsupportedError("torchopt.MetaSGD always differentiates through its steps")
        module, loss, tasks = torch_case(case)
        initial = dict(module.named_parameters())
        optimizer = torchopt.MetaSGD(module, lr=case.inner_lr)
        start = torchopt.extract_state_dict(module, by="reference")
        optimizer_start = torchopt.extract_state_dict(optimizer)

        def query_loss(support_x: Any, support_y: Any, query_x: Any, query_y: Any) -> Any:
            torchopt.recover_state_dict(module, start)
            torchopt.recover_state_dict(optimizer, optimizer_start)
            for _ in range(case.inner_steps):
                optimizer.step(loss(module(support_x), support_y))
            return loss(module(query_x), query_y)

        return task_by_task(initial, tasks, query_loss)
