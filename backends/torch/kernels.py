"""Torch's fastest versions of the kernels."""

from __future__ import annotations

from mltk.ops.kernels import Kernels


class TorchKernels(Kernels):
    """Torch's fastest versions."""
