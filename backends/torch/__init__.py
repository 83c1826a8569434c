"""The Torch backend: any device, hand-derived derivatives or autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mltk.installation import needed_for

with needed_for("the backend 'torch'"):
    import torch

import array_api_compat.torch
import numpy as np

from mltk.checks import did_you_mean
from mltk.contracts import Engine
from mltk.errors import ArrayError, SettingError
from mltk.modules import functions
from mltk.ops.kernels import Kernels, kernels_of, register
from mltk.plain_arrays import check_plain
from mltk.training import fingerprint

from . import clones, fingerprints
from .bridges import from_module, to_module
from .engine import AutogradEngine, DefaultEngine, HandDerivedEngine
from .kernels import TorchKernels
from .learnable_optimizer import LearnableOptimizer
from .module_model import ModuleModel

__all__ = ["LearnableOptimizer", "ModuleModel", "TorchBackend", "create", "from_module", "to_module"]

register("torch", TorchKernels)
functions.register(torch.nn.Module, clones)
fingerprint.register(torch.Tensor, fingerprints.of_tensor)
fingerprint.register(torch.nn.Module, fingerprints.of_module)
fingerprint.register(ModuleModel, fingerprints.of_model)

ENGINES: dict[str | None, Callable[[], Engine]] = {
    None: DefaultEngine,
    "analytic": HandDerivedEngine,
    "autograd": AutogradEngine,
}


@dataclass(frozen=True)
class TorchBackend:
    """See `mltk.contracts.Backend`."""

    device: str
    dtype: str
    engine: Engine
    name: str = "torch"

    @property
    def xp(self) -> Any:
        """The namespace; no field, since modules cannot be pickled."""
        return array_api_compat.torch

    @property
    def kernels(self) -> Kernels:
        """The kernels of Torch tensors."""
        return kernels_of(torch.empty(0))

    @property
    def threads(self) -> int:
        """How many threads Torch computes with on the CPU."""
        return torch.get_num_threads()

    def asarray(self, values: Any) -> torch.Tensor:
        """See `mltk.contracts.Backend.asarray`."""
        check_plain("values", values)
        tensor = values if isinstance(values, torch.Tensor) else _from_numpy(values)
        dtype = getattr(torch, self.dtype) if tensor.is_floating_point() else tensor.dtype
        return tensor.to(device=self.device, dtype=dtype)

    def to_numpy(self, array: torch.Tensor) -> np.ndarray:
        """See `mltk.contracts.Backend.to_numpy`."""
        if array.is_meta:
            raise ArrayError("array is on the meta device, which holds no values; expected another device")
        try:
            return array.numpy(force=True)
        except RuntimeError as error:  # within a transform of torch.func
            raise ArrayError(f"array holds no values that can be fetched: {error}") from None

    def owns(self, array: Any) -> bool:
        """See `mltk.contracts.Backend.owns`."""
        return (
            isinstance(array, torch.Tensor)
            and array.layout is torch.strided
            and not array.is_quantized
            and not array.is_nested
            and str(array.device) == self.device
            and (not array.is_floating_point() or array.dtype == getattr(torch, self.dtype))
        )


def _from_numpy(values: Any) -> torch.Tensor:
    """Convert by way of NumPy, which keeps Python numbers in double precision."""
    try:
        return torch.from_numpy(np.require(values, requirements=("C", "W")))
    except (TypeError, ValueError) as error:
        raise ArrayError(f"values is a {type(values).__name__} that Torch cannot convert: {error}") from None


def create(*, device: str | None, dtype: str, engine: str | None) -> TorchBackend:
    """Make the backend; the entry point of `mltk.backend`.

    Raises:
        SettingError: If the device cannot be used or there is no such engine.
    """
    if engine not in ENGINES:
        hint = did_you_mean(engine, ["analytic", "autograd"])
        raise SettingError(f'engine is {engine!r}; the torch backend has "analytic" and "autograd"{hint}')
    try:
        found = torch.empty(0, device="cpu" if device is None else device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise SettingError(f"device is {device!r}, which Torch cannot use here: {error}") from None
    return TorchBackend(device=str(found), dtype=dtype, engine=ENGINES[engine]())
