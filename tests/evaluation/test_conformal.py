"""Conformal sets and risk control: coverage by simulation and by theory, thresholds by brute force."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

import mltk
from mltk.errors import MltkError
from mltk.evaluation import conformal_sets, controlled_sets, coverage


def two_classes(right):
    """Probabilities with that of the right class, 0, as given."""
    return np.stack([right, 1 - right], axis=-1)


def drawn(rng, tasks, queries):
    """Tasks that differ: the right class has a probability that the whole task shares in part."""
    level = rng.beta(4, 2, (tasks, 1))
    return two_classes(np.clip(level + 0.1 * rng.normal(size=(tasks, queries)), 0.01, 0.99))


def test_coverage_of_new_tasks_to_the_second_decimal():
    """One minus alpha at least, and at most 1 / (T + 1) above it; queries of a task hang together."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(1500):
        p = drawn(rng, 50, 5)
        y = np.zeros((40, 5), dtype=int)
        found.append(coverage(conformal_sets(p[:40], y, alpha=0.1)(p[40:]), y[:10]).coverage.estimate)
    assert np.mean(found) == pytest.approx(37 / 41, abs=0.005)
    assert 0.9 - 0.005 < np.mean(found) < 0.9 + 1 / 41 + 0.005


def test_coverage_has_its_beta_distribution():
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(2000):
        sets = conformal_sets(two_classes(rng.random((20, 1))), np.zeros((20, 1), dtype=int), alpha=0.2)
        covered.append(sets.threshold)  # uniform scores: the threshold is the coverage itself
    place = math.ceil(21 * 0.8)
    for level in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert np.quantile(covered, level) == pytest.approx(beta(place, 21 - place).ppf(level), abs=0.012)


@given(st.integers(1, 30), st.floats(0.02, 0.98), st.integers(0, 100))
def test_the_threshold_by_counting(tasks, alpha, seed):
    rng = np.random.default_rng(seed)
    right = rng.integers(0, 5, (tasks, 1)) / 4  # with ties
    found = conformal_sets(two_classes(right), np.zeros((tasks, 1), dtype=int), alpha=alpha).threshold
    scores = (1 - right).ravel()
    enough = [s for s in scores if np.sum(scores <= s) >= (tasks + 1) * (1 - alpha) - 1e-9]
    assert found == (min(enough) if enough else math.inf)


@given(st.integers(1, 12), st.integers(1, 4), st.floats(0.02, 0.98), st.integers(0, 100))
def test_the_controlled_threshold_by_trying_all(tasks, queries, alpha, seed):
    rng = np.random.default_rng(seed)
    right = rng.integers(0, 5, (tasks, queries)) / 4
    found = controlled_sets(two_classes(right), np.zeros((tasks, queries), dtype=int), alpha=alpha)
    fits = [
        s
        for s in np.unique(1 - right)
        if (np.sum(np.mean(1 - right > s, axis=1)) + 1) / (tasks + 1) <= alpha + 1e-12
    ]
    # Where the loss may be one, the smallest threshold, below all scores, would do as well as the least.
    if alpha * (tasks + 1) - 1 < tasks - 1e-9:
        assert found.threshold == (min(fits) if fits else math.inf)


def test_the_risk_of_new_tasks_is_controlled():
    rng = np.random.default_rng(2)
    found = []
    for _ in range(1500):
        p, y = drawn(rng, 50, 5), np.zeros((40, 5), dtype=int)
        found.append(1 - coverage(controlled_sets(p[:40], y, alpha=0.1)(p[40:]), y[:10]).coverage.estimate)
    assert 0.1 - 2 / 41 < np.mean(found) < 0.1 + 0.004


def test_too_few_tasks_have_sets_of_all_classes():
    p, y = two_classes(np.full((8, 3), 0.9)), np.zeros((8, 3), dtype=int)
    sets = conformal_sets(p, y, alpha=0.1)
    assert sets(p).all()
    assert "8 tasks are too few; expected 9" in repr(sets)
    assert not conformal_sets(p, y, alpha=1 / 9)(two_classes(np.full((1, 1), 0.95))).all()
    assert controlled_sets(p, y, alpha=0.1)(p).all()


def test_coverage_and_size_of_sets_are_told():
    sets = np.asarray([[[True, True, False]], [[False, False, True]]])
    found = coverage(sets, np.asarray([[1], [0]]))
    np.testing.assert_array_equal(found.of_tasks, [1, 0])
    assert (found.coverage.estimate, found.size.estimate) == (0.5, 1.5)
    assert found.size.units == 2


@pytest.mark.parametrize(
    ("sets", "match"),
    [
        (np.ones((2, 3, 2)), "sets has dtype float64; expected booleans"),
        (np.ones((2, 2), bool), r"sets has shape \(2, 2\)"),
        (np.ones((0, 3, 2), bool), r"sets has shape \(0, 3, 2\)"),
        ([[[True]]], "sets holds a list"),
    ],
)
def test_what_is_no_set_is_told(sets, match):
    with pytest.raises(MltkError, match=match):
        coverage(sets, np.zeros((2, 3), dtype=int))


def test_torch_has_the_same_sets():
    p, y = drawn(np.random.default_rng(3), 30, 4), np.zeros((30, 4), dtype=int)
    torch = mltk.backend("torch", dtype="float64")
    q, z = torch.asarray(p), torch.asarray(y)
    for function in (conformal_sets, controlled_sets):
        assert function(q, z) == function(p, y)
        sets = function(p, y)(p)
        np.testing.assert_array_equal(function(q, z)(q), sets)
        assert coverage(torch.asarray(sets), z).size == coverage(sets, y).size


@pytest.mark.parametrize("alpha", [0, 1, -0.1, math.nan, "some"])
def test_a_level_is_between_zero_and_one(alpha):
    p, y = two_classes(np.full((8, 3), 0.9)), np.zeros((8, 3), dtype=int)
    for function in (conformal_sets, controlled_sets):
        with pytest.raises(MltkError, match="alpha"):
            function(p, y, alpha=alpha)
