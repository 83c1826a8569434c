"""Sequences of clone, update and detach: loss and meta-gradient."""

from __future__ import annotations

from mltk.oracle.computation import Computation

COMPUTATIONS: tuple[Computation, ...] = ()
