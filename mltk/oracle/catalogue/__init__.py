"""The catalogue of known mistakes, each computed exactly by the reference."""

from __future__ import annotations

from types import ModuleType

from mltk.oracle.catalogue import (
    hardness,
    heads,
    implicit_maml,
    inner_loops,
    inner_steps,
    operations,
    reptile,
    training_recipes,
)
from mltk.oracle.catalogue.mistake import Family, Mistake, Variant

SECTIONS: dict[str, tuple[ModuleType, ...]] = {
    "Gradient-based learners": (inner_loops, inner_steps, training_recipes),
    "Reptile": (reptile,),
    "Implicit MAML": (implicit_maml,),
    "Heads": (heads,),
    "Hardness": (hardness,),
    "Operations": (operations,),
}
"""The files of the catalogue, in the order of the documentation; the first of each says what symbols mean."""

CATALOGUE: tuple[Mistake, ...] = tuple(
    mistake for files in SECTIONS.values() for file in files for mistake in file.MISTAKES
)
"""Every known mistake, in the order of the documentation."""

__all__ = ["CATALOGUE", "SECTIONS", "Family", "Mistake", "Variant"]
