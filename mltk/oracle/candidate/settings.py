"""The settings of a case, as candidates see them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mltk.checks import did_you_mean
from mltk.errors import TreeError
from mltk.oracle import layers

if TYPE_CHECKING:
    from torch import nn


class Settings(Mapping[str, Any]):
    """A read-only mapping whose entries are attributes, too: ``settings.inner_lr``.

    Args:
        values: Numbers, strings, booleans, ``None``, and lists and dicts of them; they are copied.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = copy.deepcopy(dict(values))
        self._read: dict[str, None] = {}
        self._modules: list[nn.Module] = []

    def __getitem__(self, name: str) -> Any:
        value = self._values[name]
        self._read[name] = None
        return value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # asked for by `copy` and its like, before there are values
            raise AttributeError(name)
        if name not in self._values:
            hint = did_you_mean(name, self._values)
            raise AttributeError(f"there is no setting {name!r}; there are {', '.join(self._values)}{hint}")
        return self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Settings({self._values!r})"

    @property
    def uses(self) -> tuple[tuple[str, ...], tuple[nn.Module, ...]]:
        """The settings that were read, and the modules that were made."""
        return tuple(self._read), tuple(self._modules)

    def module(self, params: Mapping[str, Any]) -> nn.Sequential:
        """The network of the setting ``layers`` as a Torch module that holds copies of its parameters.

        Args:
            params: All parameters of the network under their dotted names, arrays of any library.

        Returns:
            A new module in training mode, of the dtype of ``params``. Batch norms take the current set.

        Raises:
            UnsupportedError: If Torch has no such layer, as for batch norm with the statistics ``"support"``.
            TreeError: If ``params`` are not the parameters of the network.
        """
        import numpy as np
        import torch

        from mltk.peers.torch_modules import module_of

        module = module_of(layers.model(self["layers"]))
        if module.state_dict().keys() != params.keys():
            found, expected = (", ".join(sorted(names)) or "none" for names in (params, module.state_dict()))
            raise TreeError(f"the parameters are {found}; expected those of the network: {expected}")
        tensors = {
            name: value.detach() if isinstance(value, torch.Tensor) else torch.tensor(np.array(value))
            for name, value in params.items()
        }
        for tensor in tensors.values():
            module = module.to(tensor.device, tensor.dtype)
        module.load_state_dict(tensors)
        self._modules.append(module)
        return module

    def loss_function(self) -> Callable[[Any, Any], Any]:
        """The setting ``loss`` as a function of Torch: `mse_loss` or `cross_entropy`, the mean."""
        from mltk.peers.torch_modules import LOSSES

        return LOSSES[self["loss"]]
