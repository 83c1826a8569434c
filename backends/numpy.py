"""The NumPy backend: hand-derived derivatives on one CPU, the reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import array_api_compat.numpy
import numpy as np

from mltk.derivatives import AnalyticEngine
from mltk.errors import ArrayError, SettingError
from mltk.ops.kernels import Kernels, kernels_of, register


class NumpyKernels(Kernels):
    """NumPy's fastest versions."""


register("numpy", NumpyKernels)


@dataclass(frozen=True)
class NumpyBackend:
    """See `mltk.backend.Backend`."""

    dtype: str = "float32"
    name: str = "numpy"
    device: str = "cpu"
    xp: Any = array_api_compat.numpy
    engine: AnalyticEngine = field(default_factory=AnalyticEngine)

    @property
    def kernels(self) -> Kernels:
        """The kernels of NumPy arrays."""
        return kernels_of(np.empty(0))

    def asarray(self, values: Any) -> np.ndarray:
        """See `mltk.backend.Backend.asarray`."""
        try:
            array = np.asarray(values)
        except (TypeError, ValueError, RuntimeError) as error:
            found = type(values).__name__
            raise ArrayError(f"values is a {found} that NumPy cannot convert: {error}") from None
        if array.dtype.kind not in "biufc":
            raise ArrayError(f"values has dtype {array.dtype}; expected numbers")
        return array.astype(self.dtype, copy=False) if array.dtype.kind == "f" else array

    def to_numpy(self, array: np.ndarray) -> np.ndarray:
        """See `mltk.backend.Backend.to_numpy`."""
        return np.asarray(array)

    def owns(self, array: Any) -> bool:
        """See `mltk.backend.Backend.owns`."""
        return isinstance(array, np.ndarray | np.generic) and (
            array.dtype.kind != "f" or array.dtype == self.dtype
        )


def create(*, device: str | None, dtype: str, engine: str | None) -> NumpyBackend:
    """Make the backend; the entry point of `mltk.backend`.

    Raises:
        SettingError: If a device other than the CPU, or another engine than the analytic one, is asked for.
    """
    if device not in (None, "cpu"):
        raise SettingError(f'device is {device!r}; the numpy backend has only "cpu"')
    if engine not in (None, "analytic"):
        raise SettingError(f'engine is {engine!r}; the numpy backend has only "analytic"')
    return NumpyBackend(dtype=dtype)
