"""Experiments on settings: each shows that a setting does what its docstring says."""

from collections.abc import Callable
from typing import Any

import numpy as np

from mltk import tree

EXPERIMENTS: dict[tuple[type, str], Callable[..., None]] = {}
"""For each public class and setting what shows its effect; the arguments are fixtures, and the class."""


def shows(*kinds: type, of: str):
    """Register an experiment on a setting of some classes."""

    def register(experiment):
        for kind in kinds:
            assert (kind, of) not in EXPERIMENTS, f"{kind.__name__}.{of} has an experiment already"
            EXPERIMENTS[kind, of] = experiment
        return experiment

    return register


def close(found: Any, expected: Any, tolerance: float = 1e-10) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=tolerance, atol=tolerance)


def within(values, low, high):
    """Uniform numbers reach nearly to both ends, and never past them."""
    assert low <= values.min() <= low + 0.05 * (high - low)
    assert high - 0.05 * (high - low) <= values.max() <= high


def flat(params):
    """A tree as arrays by name."""
    return {name: np.asarray(leaf) for name, leaf in tree.flatten(params).items()}
