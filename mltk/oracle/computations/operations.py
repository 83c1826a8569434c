"""The operations of `mltk.ops`: value and three derivatives."""

from __future__ import annotations

from mltk.oracle.computation import Computation

COMPUTATIONS: tuple[Computation, ...] = ()
