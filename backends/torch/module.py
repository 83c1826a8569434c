"""Any `torch.nn.Module` as a model of mltk, for the autograd engine."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch.func import functional_call, vmap

from mltk import tree
from mltk.backend import Backend
from mltk.tree import Tree


class ModuleModel:
    """A `torch.nn.Module` with the interface of `mltk.models.Model`.

    The module itself is never changed: parameters come from the tree, and every call starts from the
    module's buffers as they were when it was wrapped (running statistics that a training-mode batch norm
    updates are discarded).

    Args:
        module: Any module whose `forward` takes one batch of inputs ``(N, *features)``.
        vectorize: Run all tasks at once by `torch.func.vmap`; ``False`` runs them one after the other,
            for modules that vmap cannot handle and for convolutions on CPUs, where it is faster.
    """

    def __init__(self, module: torch.nn.Module, *, vectorize: bool = True) -> None:
        self.module = module
        self.vectorize = vectorize
        self._buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `mltk.models.Model.shapes`."""
        return {name: tuple(p.shape) for name, p in self.module.named_parameters()}

    def init(self, backend: Backend, seed: int | np.random.Generator) -> Tree:
        """The module's own present parameters, copied; the seed plays no part."""
        return tree.unflatten(
            {name: backend.asarray(p.detach().clone()) for name, p in self.module.named_parameters()}
        )

    def apply(self, params: Tree, x: torch.Tensor) -> torch.Tensor:
        """See `mltk.models.Model.apply`."""
        flat = {name: leaf for name, leaf in tree.flatten(params).items() if name in self.shapes}
        tasks = x.shape[0]
        axes = {name: 0 if leaf.ndim > len(self.shapes[name]) else None for name, leaf in flat.items()}
        buffers = {
            name: (buffer.to(x.dtype) if buffer.is_floating_point() else buffer)
            .to(x.device)
            .expand(tasks, *buffer.shape)
            .clone()
            for name, buffer in self._buffers.items()
        }

        def call(
            parameters: dict[str, torch.Tensor], buffers: dict[str, torch.Tensor], inputs: torch.Tensor
        ) -> torch.Tensor:
            outputs: torch.Tensor = functional_call(self.module, (parameters, buffers), (inputs,))
            return outputs

        if self.vectorize:
            batched: torch.Tensor = vmap(call, in_dims=(axes, 0, 0), randomness="different")(flat, buffers, x)
            return batched
        return torch.stack(
            [
                call(
                    {name: leaf if axes[name] is None else leaf[task] for name, leaf in flat.items()},
                    {name: buffer[task] for name, buffer in buffers.items()},
                    x[task],
                )
                for task in range(tasks)
            ]
        )
