"""Splitting the classes of a dataset into parts that share none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mltk.checks import check_count, is_number
from mltk.errors import SettingError


def split_classes(
    names: Sequence[str], fractions: Sequence[float], *, seed: int = 0
) -> tuple[tuple[str, ...], ...]:
    """Deal the classes out at random; each part keeps them in their order.

    Each part has its fraction of the classes, rounded down, and the parts that lost most by that have one
    more.

    Args:
        names: The classes.
        fractions: The share of each part, positive, 1 in all: ``(0.64, 0.16, 0.2)``.
        seed: Which classes go where.

    Raises:
        SettingError: If the fractions are not such, or a part has no class.
    """
    check_count("seed", seed, at_least=0)
    if not isinstance(fractions, Sequence) or not all(is_number(share) and share > 0 for share in fractions):
        raise SettingError(f"fractions is {fractions!r}; expected positive numbers, one a part")
    if not math.isclose(sum(fractions), 1, abs_tol=1e-6):
        raise SettingError(f"fractions is {fractions!r}, {sum(fractions):g} in all; expected 1 in all")
    exact = len(names) * np.asarray(fractions, dtype=np.float64)
    counts = np.floor(exact + 1e-6).astype(int)
    for part in np.argsort(counts - exact, kind="stable")[: len(names) - counts.sum()]:
        counts[part] += 1
    if counts.min() == 0:
        raise SettingError(
            f"fractions is {fractions!r} of {len(names)} classes, which leaves a part without any; "
            "expected larger ones, or more classes"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    parts = np.split(order, np.cumsum(counts)[:-1])
    return tuple(tuple(names[place] for place in sorted(part.tolist())) for part in parts)
