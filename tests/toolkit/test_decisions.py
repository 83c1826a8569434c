"""Decisions: which learner is best, what a failure is, and from which tasks each is learned."""

import numpy as np
import pytest

from mltk.task_analysis import Measures
from mltk.toolkit import Decisions, Evidence
from mltk.toolkit.decisions import beyond_worst

pytest.importorskip("sklearn", reason="needs the extra toolkit")


def evidence(metric, outcomes, told):
    """Of two learners, with one measure that is known of each task."""
    known = Measures({"told": told}, {"told": "support"})
    return Evidence(("a", "b"), metric, outcomes, np.stack([outcomes] * 2), known, np.ones(2))


@pytest.mark.parametrize(
    ("outcomes", "threshold"),
    [([0.1, 0.2, 0.3, 0.4], 0.2), ([0.5] * 3 + [1.0] * 5, 1.0), ([1.0] * 9 + [0.9], 1.0), ([0.7, 0.7], 0.7)],
)
def test_failing_is_to_be_among_the_worst_quarter_where_there_is_one(outcomes, threshold):
    assert beyond_worst(np.asarray(outcomes)) == threshold


def test_failing_is_to_err_more_than_most_where_errors_are_measured():
    rng = np.random.default_rng(0)
    errors = rng.exponential(size=(2, 200)) * np.asarray([[1.0], [3.0]])
    found = Decisions.learned(evidence("mse", errors, errors[0]), features=["failure"])
    assert found.best == "a"
    threshold = found.failure.predictor.threshold
    assert (errors[0] > threshold).sum() == found.failure.failures == 50
    easy, hard = (
        Measures({"told": np.asarray([0.01])}, {"told": "support"}),
        Measures({"told": np.asarray([9.0])}, {"told": "support"}),
    )
    assert found.failure.risk(easy) < 0.1 < 0.9 < found.failure.risk(hard)


@pytest.mark.parametrize("chooses", [True, False])
def test_failures_are_learned_from_tasks_that_the_choice_was_not_learned_from(chooses):
    """Where there is a choice to be learned, and else from all."""
    rng = np.random.default_rng(1)
    kind = rng.integers(2, size=160).astype(float)
    better = np.stack([kind, 1 - kind]) if chooses else np.stack([0.5 + 0 * kind] * 2)
    outcomes = np.clip(0.4 + 0.4 * better + rng.normal(0, 0.02, (2, 160)), 0, 1)
    found = Decisions.learned(evidence("accuracy", outcomes, kind), features=["selection", "failure"])
    assert found.selector.abstains != chooses
    assert found.failure.tasks == (80 if chooses else 160)
    alone = Decisions.learned(evidence("accuracy", outcomes, kind), features=["selection"])
    assert (found.needed, alone.needed) == (True, chooses)  # nothing is measured that nothing is decided by
    new = Measures({"told": np.asarray([1.0, 0.0])}, {"told": "support"})
    assert found.choose(new, 2) == (("a", "b") if chooses else (found.best,) * 2)
    of_chosen = outcomes[1 - kind.astype(int), np.arange(160)][80:] if chooses else outcomes.max(axis=0)
    if chooses:  # the failures are those of what is chosen
        assert found.failure.failures == (of_chosen < found.failure.predictor.threshold).sum() == 20
