"""Plain Torch autograd: training steps of a prototypical network, one task after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mltk.peers.peer import Case, Result, missing


@dataclass(frozen=True)
class TorchPrototypical:
    """Prototypical networks with squared distances (Snell et al. 2017) and Adam, as users write them.

    What it prepares is a training step. It returns the loss and the gradient before the step.

    Attributes:
        name: What the benchmark calls it.
        channels_last: Whether images and weights are laid out channels-last in memory.
    """

    name: str = "torch-loop"
    channels_last: bool = False

    def available(self) -> str | None:
        """See `mltk.peers.Peer.available`."""
        return missing("torch")

    def prepare(self, case: Case) -> Callable[[], Result]:
        """See `mltk.peers.Peer.prepare`."""
        import torch

        from mltk.peers.torch_modules import torch_case

        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        module, loss, (support_x, support_y, query_x, query_y) = torch_case(case)
        module.to(memory_format=layout)  # type: ignore[call-overload]  # Torch's own overloads lack it
        images = [task.contiguous(memory_format=layout) for task in torch.cat([support_x, query_x], dim=1)]
        n_tasks, rows = support_y.shape
        optimizer = torch.optim.Adam(module.parameters())

        def step() -> Result:
            optimizer.zero_grad()
            total = torch.zeros((), dtype=support_x.dtype)
            for x, support_labels, query_labels in zip(images, support_y, query_y, strict=True):
                support, query = module(x).tensor_split([rows])
                counts = support_labels.bincount()
                sums = support.new_zeros(len(counts), support.shape[1]).index_add(0, support_labels, support)
                prototypes = sums / counts[:, None]
                value = loss(-torch.cdist(query, prototypes).square(), query_labels) / n_tasks
                torch.autograd.backward(value)
                total += value.detach()
            optimizer.step()
            return total, {name: p.grad for name, p in module.named_parameters()}

        return step
