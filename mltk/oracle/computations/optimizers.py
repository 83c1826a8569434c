"""The learnable inner optimiser and its transforms: loss and meta-gradient."""

from __future__ import annotations

from mltk.oracle.computation import Computation

COMPUTATIONS: tuple[Computation, ...] = ()
