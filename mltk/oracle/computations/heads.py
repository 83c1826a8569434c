"""The heads of metric and closed-form learners: logits, loss and gradients."""

from __future__ import annotations

from mltk.oracle.computation import Computation

COMPUTATIONS: tuple[Computation, ...] = ()
