"""Evidence and intervals that may be looked at at any time: exact where they can be, simulated where not."""

import math
import multiprocessing
import sys
from importlib import import_module
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import sequential
from hypothesis import given, settings
from hypothesis import strategies as st

from mltk.errors import SettingError, ShapeError
from mltk.evaluation import EProcess, asymptotic, betting, empirical_bernstein


@settings(max_examples=30)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=7), st.floats(-1, 1))
def test_evidence_is_1_on_average_over_all_signs_whatever_came_before(sizes, before):
    signs = np.asarray(list(product((-1.0, 1.0), repeat=len(sizes))))
    state, first = EProcess().update(np.asarray([before]))
    _, logs = state.update(signs * np.asarray(sizes))
    values = np.exp(logs[:, -1])  # of both directions
    np.testing.assert_allclose(values.mean(axis=0), np.exp(first[0]), rtol=1e-10)


def test_evidence_is_the_mean_of_products_of_bets():
    differences = np.asarray([0.2, -0.1, 0.05])
    rates = np.geomspace(0.3, 100, 24)
    _, logs = EProcess().update(differences)
    for sign, column in ((1, 0), (-1, 1)):
        products = np.cumprod(1 + np.tanh(sign * rates * differences[:, None]), axis=0)
        np.testing.assert_allclose(np.exp(logs[:, column]), products.mean(axis=1), rtol=1e-12)


@settings(max_examples=20)
@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=9), st.integers(0, 9))
def test_in_parts_evidence_is_the_same_to_the_bit(differences, cut):
    values = np.asarray(differences)
    state, whole = EProcess().update(values)
    parts, found = EProcess(), []
    for part in (values[:cut], values[cut:]):
        if part.size:
            parts, logs = parts.update(part)
            found.append(logs)
    np.testing.assert_array_equal(np.concatenate(found), whole)
    np.testing.assert_array_equal(parts.log_capital, state.log_capital)


# Skewed differences with mean zero are none of learners that are alike: evidence tells them from zero.
@pytest.mark.parametrize(("null", "found"), list(zip(sequential.NULLS, (0, 0, 0, 0.02, 0.5), strict=True)))
def test_looking_again_and_again_deceives_t_and_of_learners_that_are_alike_not_the_evidence(null, found):
    t, evidence, sequence = sequential.false_decisions(1000 if null == "normal" else 400, null)
    assert t > 0.18
    assert evidence <= 0.05 if not found else evidence > found
    assert sequence <= 0.05 or null.startswith("rare")
    assert sequential.false_equivalences(300, null) <= 0.05


@pytest.mark.parametrize(("points", "tasks"), [(0.01, 84), (0.005, 388)])
def test_a_difference_is_found_after_about_so_many_tasks(points, tasks):
    needed, found, wrong = sequential.tasks_needed(points, 6 * tasks, 200)
    assert 0.75 * tasks < needed < 1.25 * tasks
    assert found > 0.98
    assert wrong < 0.01


@pytest.mark.parametrize("sequence", [empirical_bernstein, betting])
@pytest.mark.parametrize("shape", ["bernoulli", "beta"])
def test_bounded_means_stay_inside_at_all_times(sequence, shape):
    rng = np.random.default_rng(2)
    draw = rng.binomial(1, 0.8, (300, 150)) if shape == "bernoulli" else rng.beta(8, 2, (300, 150))
    found = sequence(draw.astype(float))
    held = ((found.low <= 0.8) & (found.high >= 0.8)).all(axis=1)
    assert held.mean() >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / 300)
    width = (found.high - found.low)[:, -1].mean()
    assert width < (0.45 if sequence is empirical_bernstein else 0.3)


def test_betting_is_the_capital_of_both_gamblers_by_hand():
    x = np.asarray([0.3, 0.9, 0.6, 0.7])
    found = betting(x)
    means, alpha = np.linspace(0, 1, 1001), 0.05
    capital = np.full((2, means.size), 0.5)
    seen, squares = 0.5, 0.25
    variance = 0.25
    for time, value in enumerate(x, start=1):
        bet = math.sqrt(2 * math.log(2 / alpha) / (variance * time * math.log(1 + time)))
        with np.errstate(divide="ignore"):
            capital[0] *= 1 + np.minimum(bet, 0.5 / means) * (value - means)
            capital[1] *= 1 - np.minimum(bet, 0.5 / (1 - means)) * (value - means)
        kept = means[capital.max(axis=0) <= 1 / alpha]
        assert found.low[time - 1] == pytest.approx(max(kept[0] - 0.001, 0), abs=1e-9)
        assert found.high[time - 1] == pytest.approx(min(kept[-1] + 0.001, 1), abs=1e-9)
        seen += value
        squares += (value - seen / (time + 1)) ** 2
        variance = squares / (time + 1)


def test_drawn_without_replacement_all_values_tell_the_mean_exactly():
    x = np.random.default_rng(3).uniform(size=40)
    found = betting(x, population=40)
    assert found.low[-1] == pytest.approx(x.mean(), abs=1e-9)
    assert found.high[-1] == pytest.approx(x.mean(), abs=1e-9)
    assert np.all(found.low <= x.mean() + 1e-9)
    assert np.all(found.high >= x.mean() - 1e-9)


def test_a_range_is_only_a_unit():
    x = np.random.default_rng(4).uniform(size=60)
    for sequence in (empirical_bernstein, betting):
        plain, moved = sequence(x), sequence(4 * x - 1, low=-1, high=3)
        np.testing.assert_allclose(moved.low, 4 * plain.low - 1, atol=1e-12)
        np.testing.assert_allclose(moved.high, 4 * plain.high - 1, atol=1e-12)


@pytest.mark.parametrize("sequence", [asymptotic, empirical_bernstein, betting])
def test_bad_values_are_refused(sequence):
    with pytest.raises(ShapeError, match="values has shape"):
        sequence(np.zeros(0))
    with pytest.raises(SettingError, match="NaN or infinity"):
        sequence(np.asarray([0.1, np.nan]))
    with pytest.raises(SettingError, match="alpha is 2"):
        sequence(np.asarray([0.1]), alpha=2)


def test_values_outside_their_range_are_refused():
    with pytest.raises(SettingError, match=r"values go from 0\.1 to 1\.5; expected them from 0 to 1"):
        betting(np.asarray([0.1, 1.5]))


@pytest.fixture
def published(monkeypatch):
    """The pure-Python files of confseq, which set-up unpacks, as they were when NumPy still had this name."""
    if not (Path(sys.prefix) / "confseq").is_dir():
        pytest.skip("the source of confseq is not there: make test unpacks it where it can be downloaded")
    monkeypatch.syspath_prepend(Path(sys.prefix))
    monkeypatch.setattr(np, "float_", np.float64, raising=False)
    monkeypatch.setitem(sys.modules, "multiprocess", multiprocessing)
    return import_module("confseq.betting"), import_module("confseq.predmix")


@pytest.mark.parametrize(("a", "b", "alpha"), [(1, 1, 0.01), (6, 3, 0.05), (0.5, 8, 0.2)])
def test_the_published_reference_says_the_same(published, a, b, alpha):
    bets, mixtures = published
    x = np.random.default_rng(5).beta(a, b, 40)
    found = betting(x, alpha=alpha)
    np.testing.assert_allclose([found.low, found.high], bets.betting_cs(x, alpha=alpha), atol=1e-12)

    # Its code takes the plain running mean where the paper, and this, takes one that starts at 1/2.
    def lower(x):
        before = (0.5 + np.cumsum(x) - x) / np.arange(1, x.size + 1)
        return mixtures.predmix_lower_cs(
            x,
            v=(x - before) ** 2,
            lambdas_fn=lambda y: mixtures.lambda_predmix_eb(y, truncation=0.5, alpha=alpha / 2),
            psi_fn=lambda bet: -np.log(1 - bet) - bet,
            alpha=alpha / 2,
        )

    found = empirical_bernstein(x, alpha=alpha)
    np.testing.assert_allclose(found.low, np.clip(lower(x), 0, 1), atol=1e-12)
    np.testing.assert_allclose(found.high, np.clip(1 - lower(1 - x), 0, 1), atol=1e-12)
