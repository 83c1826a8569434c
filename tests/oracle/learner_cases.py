"""Cases of learners, and what the hand-derived rules give for them with other settings or inputs."""

import pytest

from mltk.oracle import vectors
from mltk.oracle.computations import computation


def cases_of(name, *kinds):
    return [case for case in vectors.stored(name) if not kinds or case.kind in kinds]


def case_of(name, label):
    return next(case for case in vectors.stored(name) if case.name == label)


def outputs(name, case, inputs=None, **changes):
    """What the hand-derived rules give, with other settings or inputs."""
    reference = computation(name).reference
    return reference({**case.settings, **changes}, {**case.inputs, **(inputs or {})})


def pairs(names, *kinds):
    """Parameters of a test: each case with the name of its computation."""
    found = [(name, case) for name in names for case in cases_of(name, *kinds)]
    return pytest.mark.parametrize(("name", "case"), found, ids=[f"{n}-{c.name}" for n, c in found])
