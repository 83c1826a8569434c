"""How well a measure can predict an accuracy, on families where that is known."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mltk.errors import NotFiniteError, SettingError, ShapeError
from mltk.task_analysis import Measures, ceiling, correlation, predicted


@given(st.integers(4, 6), st.sampled_from([2, 4, 6]), st.integers(0, 2**32))
def test_reliability_is_what_all_splits_give(tasks, queries, seed):
    """Expected covariance and variance of halves over all splits, then Spearman-Brown."""
    rng = np.random.default_rng(seed)
    right = rng.random((tasks, queries)) < rng.random((tasks, 1))
    if np.ptp(right.mean(1)) == 0:
        right[0] = ~right[1]
    halves = []
    for chosen in combinations(range(queries), queries // 2):
        rest = [i for i in range(queries) if i not in chosen]
        halves.append((right[:, list(chosen)].mean(1), right[:, rest].mean(1)))
    one, other = np.asarray(halves).transpose(1, 2, 0)  # (tasks, splits)
    # Splits are drawn for each task by itself, so different tasks are independent.
    means = one.mean(1)
    apart = (means.sum() ** 2 - (means**2).sum()) / (tasks * (tasks - 1))
    covariance = (one * other).mean() - apart
    variance = (one * one).mean() - apart
    if covariance + variance < 1e-9:
        return
    half = covariance / variance
    found, _ = ceiling(right.mean(1), queries)
    np.testing.assert_allclose(found.estimate, 2 * half / (1 + half), rtol=1e-9, atol=1e-9)


def answers(tasks, queries, a, b, seed):
    """True accuracies from a beta distribution, and those of the queries: the reliability is known."""
    rng = np.random.default_rng(seed)
    truth = rng.beta(a, b, tasks)
    return truth, rng.binomial(queries, truth) / queries, rng.binomial(queries, truth) / queries


def test_is_right_where_the_reliability_is_known():
    a, b, queries = 8.0, 2.0, 25
    known = queries / (queries + a + b)  # of beta-binomial answers
    truth, accuracies, others = answers(200_000, queries, a, b, 0)
    reliability, highest = ceiling(accuracies, queries)
    np.testing.assert_allclose(reliability.estimate, known, atol=0.003)
    np.testing.assert_allclose(correlation(accuracies, others).estimate, known, atol=0.003)
    np.testing.assert_allclose(correlation(accuracies, truth).estimate, highest.estimate, atol=0.003)
    np.testing.assert_allclose(highest.estimate, np.sqrt(known), atol=0.003)


def test_intervals_hold_what_they_are_of():
    a, b, queries, tasks = 8.0, 2.0, 25, 100
    known, held = queries / (queries + a + b), np.zeros(3)
    for seed in range(300):
        truth, accuracies, _ = answers(tasks, queries, a, b, seed)
        reliability, highest = ceiling(accuracies, queries)
        found = correlation(truth, accuracies)
        for place, (interval, value) in enumerate(
            ((reliability, known), (highest, known**0.5), (found, known**0.5))
        ):
            held[place] += interval.low <= value <= interval.high
    assert (held / 300 > 0.91).all(), held / 300
    assert (held / 300 < 0.985).all(), held / 300


def test_luck_alone_has_no_reliability():
    accuracies = np.random.default_rng(0).binomial(20, 0.7, 5000) / 20
    reliability, highest = ceiling(accuracies, 20)
    assert abs(reliability.estimate) < 0.08
    assert reliability.low < 0 < reliability.high
    assert highest.low == 0


@given(st.integers(4, 30), st.integers(0, 99), st.sampled_from([1e-8, 1.0, 1e8]), st.sampled_from([0.0, 1e6]))
def test_correlation_is_pearsons_whatever_the_scale(tasks, seed, scale, offset):
    x, y = np.random.default_rng(seed).normal(size=(2, tasks))
    found = correlation(x, y)
    np.testing.assert_allclose(found.estimate, np.corrcoef(x, y)[0, 1], rtol=1e-9, atol=1e-12)
    moved = correlation(scale * (x + offset), y)
    np.testing.assert_allclose(
        [moved.estimate, moved.low, moved.high], [found.estimate, found.low, found.high], rtol=1e-5, atol=1e-6
    )
    assert -1 <= found.low <= found.estimate <= found.high <= 1
    assert found.over == "tasks"


def test_the_interval_is_the_jackknifes():
    x, y = np.random.default_rng(1).normal(size=(2, 12))
    y = y + x
    z = np.arctanh([np.corrcoef(np.delete(x, i), np.delete(y, i))[0, 1] for i in range(12)])
    error = np.sqrt(11 / 12 * ((z - z.mean()) ** 2).sum())
    found = correlation(x, y)
    np.testing.assert_allclose(
        np.arctanh(found.high) - np.arctanh(found.estimate), 2.200985 * error, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("y", "estimate", "reason"),
    [
        ([2, 1, 4, 3], 0.6, "without any of which it is the same"),  # each time it is 1/2
        ([1, 2, 3, 4], 1.0, "without any of which it is the same"),
        ([0.3] * 7 + [0.7], 3**-0.5, "without some of which it is undefined"),  # without the last
        ([0.1, 0.1, 0.1, 0.1], np.nan, "without some of which it is undefined"),
        ([0.1 + 0.2, 0.3, 0.3, 0.3], np.nan, "without some of which it is undefined"),
    ],
)
def test_nothing_is_known_of_a_correlation_that_does_not_vary(y, estimate, reason):
    found = correlation(0.1 * np.arange(len(y)), y)
    np.testing.assert_allclose(found.estimate, estimate, rtol=1e-9)
    bounds = (-1, 1) if np.isfinite(estimate) else (np.nan, np.nan)
    np.testing.assert_array_equal((found.low, found.high), bounds)
    assert str(found).endswith(f"tasks, {reason})")


def test_nothing_is_known_of_a_reliability_that_does_not_vary_and_none_is_above_one():
    found, highest = ceiling([0, 0, 1, 1], 2)
    assert (found.estimate, found.low, found.high) == (1, -np.inf, 1)
    assert (highest.estimate, highest.low, highest.high) == (1, 0, 1)
    found, _ = ceiling([0.1, 0.9, 0.8, 0.2, 0.7], 25)
    assert found.low < 0.9 < found.estimate < found.high == 1


def test_each_measure_stands_beside_the_ceiling():
    truth, accuracies, _ = answers(200, 25, 8, 2, 3)
    rng = np.random.default_rng(0)
    measured = Measures(
        {
            "truth": truth,
            "ways": np.full(200, 5.0),
            "noise": rng.normal(size=200),
            "odd": np.full(200, np.inf),
        },
        {"truth": "support", "ways": "support", "noise": "query labels", "odd": "support"},
    )
    found = predicted(measured, accuracies, 25)
    assert found.constant == ("ways", "odd")
    assert found.correlations["truth"] == correlation(truth, accuracies)
    assert (found.reliability, found.ceiling) == ceiling(accuracies, 25)
    lines = str(found).splitlines()
    assert "200 tasks" in lines[0]
    names = [line.split()[0] for line in lines[3:]]
    assert names == ["truth", "noise", "the"]
    assert "needs the query labels" in lines[4]
    told = found.to_dict()
    assert told["correlations"]["truth"]["correlation"][0] == found.correlations["truth"].estimate
    assert told["constant"] == ["ways", "odd"]


def test_bad_input_is_refused():
    with pytest.raises(SettingError, match=r"accuracies are all 0\.5"):
        ceiling(np.full(5, 0.5), 4)
    with pytest.raises(SettingError, match="queries is 1"):
        ceiling(np.arange(5) / 5, 1)
    with pytest.raises(ShapeError, match=r"accuracies has shape \(3,\)"):
        ceiling(np.arange(3) / 3, 4)
    with pytest.raises(NotFiniteError, match="accuracies holds NaN"):
        ceiling(np.asarray([0, np.nan, 1, 1]), 4)
    measured = Measures({"a": np.arange(5.0)}, {"a": "support"})
    with pytest.raises(ShapeError, match=r"accuracies has shape \(4,\); expected \(5,\)"):
        predicted(measured, np.arange(4) / 4, 4)
    with pytest.raises(SettingError, match="measured"):
        predicted({"a": np.arange(4.0)}, np.arange(4) / 4, 4)
