"""The catalogue of known mistakes, each computed exactly by the reference."""

from __future__ import annotations

from mltk.oracle.mistakes import heads, implicit, inner_loop, layers, recipe, reptile, steps
from mltk.oracle.mistakes.mistake import Family, Mistake, Variant

CATALOGUE: tuple[Mistake, ...] = (
    *inner_loop.MISTAKES,
    *steps.MISTAKES,
    *recipe.MISTAKES,
    *reptile.MISTAKES,
    *implicit.MISTAKES,
    *heads.MISTAKES,
    *layers.MISTAKES,
)
"""Every known mistake, in the order of the documentation."""

__all__ = ["CATALOGUE", "Family", "Mistake", "Variant"]
