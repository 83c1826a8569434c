"""The catalogue of known mistakes, each computed exactly by the reference."""

from __future__ import annotations

from mltk.oracle.mistakes import heads, inner_loop, recipe, steps
from mltk.oracle.mistakes.mistake import Family, Mistake, Variant

CATALOGUE: tuple[Mistake, ...] = (
    *inner_loop.MISTAKES,
    *steps.MISTAKES,
    *recipe.MISTAKES,
    *heads.MISTAKES,
)
"""Every known mistake, in the order of the documentation."""

__all__ = ["CATALOGUE", "Family", "Mistake", "Variant"]
