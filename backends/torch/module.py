"""Any `torch.nn.Module` as a model of mltk, for the autograd engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import torch
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from mltk import tree
from mltk.backend import Backend
from mltk.errors import SettingError, UnsupportedError
from mltk.tree import Tree

VMAP_REFUSES = ("vmap", "Batching rule")
"""What Torch writes in the errors that say a module cannot be vectorised."""


class ModuleModel:
    """A `torch.nn.Module` with the interface of `mltk.models.Model`.

    The module itself is never changed: parameters come from the tree, and every call starts from the
    module's buffers as they were when it was wrapped (running statistics that a training-mode batch norm
    updates are discarded). The buffers follow the dtype and device of the input.

    Parameters that several submodules share appear once, under their first name. Those with
    ``requires_grad=False`` are constants, like buffers: no learner moves them.

    Dropout and other random layers draw from Torch's own generator, anew in each call and task. An exact
    meta-gradient with ``checkpoint=True``, which calls the module a second time, needs modules without them.

    Args:
        module: Any module whose `forward` takes one batch of inputs ``(N, *features)`` and gives one tensor.
        vectorize: Run all tasks at once by `torch.func.vmap`; ``False`` runs them one after the other,
            for modules that vmap cannot handle (recurrent ones) and for convolutions on CPUs, where it is
            faster.

    Raises:
        SettingError: If ``module`` is not a module.
    """

    def __init__(self, module: torch.nn.Module, *, vectorize: bool = True) -> None:
        if not isinstance(module, torch.nn.Module):
            raise SettingError(f"module is {module!r}; expected a torch.nn.Module")
        self.module = module
        self.vectorize = vectorize
        frozen = [(name, p) for name, p in module.named_parameters() if not p.requires_grad]
        self._constants = {
            name: constant.detach().clone() for name, constant in [*module.named_buffers(), *frozen]
        }

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `mltk.models.Model.shapes`."""
        return {
            name: tuple(p.shape) for name, p in self.module.named_parameters() if name not in self._constants
        }

    def init(self, backend: Backend, seed: int | np.random.Generator) -> Tree:
        """The module's own present parameters, copied; the seed plays no part."""
        present = dict(self.module.named_parameters())
        return tree.unflatten({name: backend.asarray(present[name].detach().clone()) for name in self.shapes})

    def apply(self, params: Tree, x: torch.Tensor) -> torch.Tensor:
        """See `mltk.models.Model.apply`.

        Raises:
            UnsupportedError: If `torch.func.vmap` cannot run the module.
        """
        flat = {name: leaf for name, leaf in tree.flatten(params).items() if name in self.shapes}
        axes = {name: 0 if leaf.ndim > len(self.shapes[name]) else None for name, leaf in flat.items()}
        tasks = x.shape[0]
        constants = {
            name: constant.to(x.device, x.dtype if constant.is_floating_point() else None)
            .expand(tasks, *constant.shape)
            .clone()
            for name, constant in self._constants.items()
        }

        def call(
            parameters: dict[str, torch.Tensor], constants: dict[str, torch.Tensor], inputs: torch.Tensor
        ) -> torch.Tensor:
            outputs: torch.Tensor = functional_call(self.module, (parameters, constants), (inputs,))
            return outputs

        with _twice_differentiable():
            if self.vectorize:
                try:
                    batched: torch.Tensor = vmap(call, in_dims=(axes, 0, 0), randomness="different")(
                        flat, constants, x
                    )
                except RuntimeError as error:
                    if not any(word in str(error) for word in VMAP_REFUSES):
                        raise
                    raise UnsupportedError(
                        f"torch.func.vmap cannot run {type(self.module).__name__}; "
                        "wrap it by ModuleModel(module, vectorize=False)"
                    ) from error
                return batched
            return torch.stack(
                [
                    call(
                        {name: leaf if axes[name] is None else leaf[task] for name, leaf in flat.items()},
                        {name: constant[task] for name, constant in constants.items()},
                        x[task],
                    )
                    for task in range(tasks)
                ]
            )


@contextmanager
def _twice_differentiable() -> Iterator[None]:
    """Switch off the fused attention kernels of Torch, which have no second (or no) derivative."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
