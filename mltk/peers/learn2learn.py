"""`learn2learn` (Arnold et al. 2020): its `MAML` around a module, with ``clone`` and ``adapt``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mltk.peers.peer import Adapter, Case, Result


@dataclass(frozen=True)
class Learn2Learn(Adapter):
    """See `mltk.peers.Peer`."""

    needs = ("torch", "learn2learn")
    name: str = "learn2learn"

    def prepare(self, case: Case) -> Callable[[], Result]:
        """See `mltk.peers.Peer.prepare`."""
        import learn2learn

        from mltk.peers.torch_modules import task_by_task, torch_case

        module, loss, tasks = torch_case(case)
        maml = learn2learn.algorithms.MAML(module, lr=case.inner_lr, first_order=case.first_order)

        def query_loss(support_x: Any, support_y: Any, query_x: Any, query_y: Any) -> Any:
            learner = maml.clone()
            for _ in range(case.inner_steps):
                learner.adapt(loss(learner(support_x), support_y))
            return loss(learner(query_x), query_y)

        return task_by_task(dict(module.named_parameters()), tasks, query_loss)
