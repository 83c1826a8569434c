"""Magic box, surrogate and policy losses: derivatives of expectations."""

from __future__ import annotations

from mltk.oracle.computation import Computation

COMPUTATIONS: tuple[Computation, ...] = ()
