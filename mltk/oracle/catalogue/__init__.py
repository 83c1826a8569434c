"""The catalogue of known mistakes, each computed exactly by the reference."""

from __future__ import annotations

from mltk.oracle.catalogue import (
    heads,
    implicit_maml,
    inner_loops,
    inner_steps,
    operations,
    reptile,
    training_recipes,
)
from mltk.oracle.catalogue.mistake import Family, Mistake, Variant

CATALOGUE: tuple[Mistake, ...] = (
    *inner_loops.MISTAKES,
    *inner_steps.MISTAKES,
    *training_recipes.MISTAKES,
    *reptile.MISTAKES,
    *implicit_maml.MISTAKES,
    *heads.MISTAKES,
    *operations.MISTAKES,
)
"""Every known mistake, in the order of the documentation."""

__all__ = ["CATALOGUE", "Family", "Mistake", "Variant"]
