"""A few cases of MAML for the oracle's tests, which are faster than all test vectors."""

from pathlib import Path

import numpy as np
import oracle_candidates
import pytest

from mltk import models
from mltk.oracle import vectors
from mltk.oracle.case import Case
from mltk.oracle.check import check
from mltk.oracle.computations import computation
from mltk.oracle.layers import describe_model
from mltk.oracle.random_cases import completed
from mltk.oracle.report_text import to_text

CANDIDATES = Path(__file__).with_name("oracle_candidates.py")


def maml_case(name, inner_steps, *, tasks=2, shots=3, queries=2, sizes=(2, 3, 2), seed=0, **settings):
    """A valid case of regression, with its outputs."""
    rng = np.random.default_rng(seed)
    network = models.mlp(sizes, activation="tanh")

    def numbers(*shape):
        return rng.integers(-20, 21, shape) / 10

    inputs = {
        "params": {key: numbers(*shape) / 2 for key, shape in network.shapes.items()},
        "support_x": numbers(tasks, shots, sizes[0]),
        "support_y": numbers(tasks, shots, sizes[-1]),
        "query_x": numbers(tasks, queries, sizes[0]),
        "query_y": numbers(tasks, queries, sizes[-1]),
    }
    fixed = {"layers": describe_model(network), "loss": "mse", "ways": None, "adapted": None}
    steps = {"inner_lr": 0.1, "inner_steps": inner_steps, "first_order": False}
    case = completed(
        computation("maml"), Case(name, "valid", "", fixed | steps | settings, inputs), "float64"
    )
    assert case is not None
    return case


def few_cases():
    """Three valid cases, and one that must be refused."""
    bad = maml_case("not-finite", 1, seed=3)
    inputs = {**bad.inputs, "support_x": np.full_like(bad.inputs["support_x"], np.nan)}
    return (
        maml_case("one-step", 1),
        maml_case("two-steps", 2, tasks=3, shots=2, queries=4, sizes=(3, 4, 2), seed=1),
        maml_case("one-step-again", 1, seed=2),
        Case("not-finite", "must-raise", "", bad.settings, inputs, raises="NotFiniteError"),
    )


@pytest.fixture(autouse=True)
def few_vectors(monkeypatch):
    """Test vectors that take no time, and candidates that have not been called."""
    cases = few_cases()
    monkeypatch.setattr(vectors, "stored", lambda name: cases)
    oracle_candidates.STATE.clear()


def verdict(candidate, *, arrays="numpy", examples=0, **options):
    """What is said about a candidate for MAML."""
    report = check(candidate, ["maml"], arrays=arrays, examples=examples, **options)
    assert to_text(report)
    return report.verdicts[0]
