"""Plain Torch autograd: training steps of a prototypical network, one task after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mltk.peers.peer import Adapter, Case, Result


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
