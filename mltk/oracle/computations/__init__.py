"""Every public computation of mltk, as the oracle knows it; one file per family."""

from __future__ import annotations

from functools import cache

from mltk.checks import check_choice
from mltk.oracle.computation import Computation


@cache
def computations() -> dict[str, Computation]:
    """All computations under their names, in the order of the documentation."""
    from mltk.oracle.computations import (
        estimators,
        hardness,
        heads,
        learners,
        losses,
        modules,
        operations,
        optimizers,
    )

    families = (learners, optimizers, heads, hardness, operations, losses, estimators, modules)
    return {each.name: each for family in families for each in family.COMPUTATIONS}


def computation(name: str) -> Computation:
    """The computation of a name.

    Raises:
        SettingError: If there is none.
    """
    check_choice("computation", name, computations())
    return computations()[name]
