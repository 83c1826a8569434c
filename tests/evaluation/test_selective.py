"""Selective prediction: against all orders of ties, the best order, and its limit."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mltk
from mltk.errors import MltkError
from mltk.evaluation import selective


def by_definition(errors):
    """AURC and AUGRC of errors in an order without ties."""
    n = len(errors)
    sums = list(itertools.accumulate(errors))
    return sum(total / k for k, total in enumerate(sums, start=1)) / n, sum(sums) / n**2


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=6))
def test_ties_count_as_the_mean_of_all_their_orders(pairs):
    found = selective(np.asarray([float(c) for c, _ in pairs]), np.asarray([e for _, e in pairs]))
    orders = []
    for order in itertools.permutations(pairs):
        confidences = [c for c, _ in order]
        if confidences == sorted(confidences, reverse=True):
            orders.append(by_definition([e for _, e in order]))
    aurc, augrc = np.mean(orders, axis=0)
    assert found.aurc == pytest.approx(aurc, abs=1e-14)
    assert found.augrc == pytest.approx(augrc, abs=1e-14)
    best = min(by_definition(order)[0] for order in itertools.permutations([e for _, e in pairs]))
    assert found.e_aurc == pytest.approx(aurc - best, abs=1e-14)


def test_the_best_order_has_nothing_in_excess_and_nears_the_formula():
    errors = np.repeat([0, 1], [70_000, 30_000])
    found = selective(-np.arange(100_000.0), errors)
    assert found.e_aurc == 0
    assert found.aurc == pytest.approx(0.3 + 0.7 * math.log(0.7), abs=2e-5)
    assert found.augrc == pytest.approx(0.3**2 / 2, abs=2e-5)
    few = selective(-np.arange(4.0), np.asarray([0, 0, 0, 1]))
    assert few.aurc == 1 / 16  # the formula says 0.034


def test_confidence_that_says_nothing_has_the_error_rate():
    found = selective(np.ones((5, 4)), np.arange(20).reshape(5, 4) % 5 == 0)
    assert found.aurc == pytest.approx(0.2, rel=1e-14)
    np.testing.assert_allclose(found.risk, 0.2, rtol=1e-13)
    assert found.augrc == pytest.approx(0.2 * 21 / 40, rel=1e-14)


@pytest.mark.parametrize("wrong", [0, 1])
def test_all_right_and_all_wrong(wrong):
    found = selective(np.asarray([0.3, 0.9, 0.9]), np.full(3, wrong))
    assert found.aurc == pytest.approx(wrong, abs=1e-15)
    assert found.e_aurc == pytest.approx(0, abs=1e-15)
    assert "error rate" in repr(found)


def test_confidences_of_torch():
    torch = mltk.backend("torch", dtype="float64")
    sure, wrong = np.random.default_rng(0).random((3, 4)), np.eye(3, 4)
    assert selective(torch.asarray(sure), wrong).aurc == selective(sure, wrong).aurc


@pytest.mark.parametrize(
    ("confidence", "wrong", "match"),
    [
        (np.ones(3), np.zeros(2), r"wrong has shape \(2,\); expected \(3,\)"),
        (np.ones(2), np.asarray([0, 2]), "expected 1 where"),
        (np.asarray([np.nan, 1]), np.zeros(2), "NaN"),
        (np.ones(0), np.zeros(0), "at least one"),
    ],
)
def test_what_does_not_fit_is_told(confidence, wrong, match):
    with pytest.raises(MltkError, match=match):
        selective(confidence, wrong)
