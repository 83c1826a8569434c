"""Calibration: against scikit-learn, sums by hand, and what is known of calibrated predictions."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

import mltk
from mltk.errors import MltkError
from mltk.evaluation import brier, brier_parts, calibration, ece, nll, reliability
from mltk.evaluation.reliability import bins_by_confidence, distribution_of_right


def drawn(shape=(40, 5, 4), seed=0, sharpen=1.0):
    """Probabilities, and labels drawn from them before they were sharpened."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=shape) * 1.5
    true, said = (np.exp(z) / np.exp(z).sum(-1, keepdims=True) for z in (logits, logits * sharpen))
    labels = (true.cumsum(-1) > rng.random((*shape[:-1], 1))).argmax(-1)
    return said, labels


@st.composite
def predictions(draw):
    """Few and many, with ties, certainties and impossibilities."""
    tasks, queries, ways = draw(st.integers(1, 6)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
    shape = (tasks, queries, ways)
    weights = draw(
        st.lists(st.integers(0, 3), min_size=math.prod(shape), max_size=math.prod(shape)).map(
            lambda flat: np.asarray(flat, dtype=float).reshape(shape)
        )
    )
    weights[..., 0] += weights.sum(-1) == 0
    labels = draw(st.lists(st.integers(0, ways - 1), min_size=tasks * queries, max_size=tasks * queries))
    return weights / weights.sum(-1, keepdims=True), np.reshape(labels, (tasks, queries))


@pytest.mark.parametrize("bins", [1, 2, 5, 10])
def test_bins_are_those_of_scikit_learn(bins):
    p, y = drawn()
    found = reliability(p, y, bins=bins)
    right = (p.argmax(-1) == y).ravel()
    accuracy, confidence = calibration_curve(right, p.max(-1).ravel(), n_bins=bins, strategy="quantile")
    np.testing.assert_allclose(found.accuracy, accuracy, rtol=1e-12)
    np.testing.assert_allclose(found.confidence, confidence, rtol=1e-12)
    assert set(found.counts) == {right.size // bins}


def test_scores_are_those_of_scikit_learn():
    p, y = drawn()
    flat, labels = p.reshape(-1, 4), y.ravel()
    assert nll(p, y) == pytest.approx(log_loss(labels, flat), rel=1e-13)
    one_hot = np.eye(4)[labels]
    by_class = [brier_score_loss(one_hot[:, k], flat[:, k]) for k in range(4)]
    assert brier(p, y) == pytest.approx(sum(by_class), rel=1e-13)
    found = calibration(p, y)
    assert found.nll.estimate == pytest.approx(nll(p, y), rel=1e-13)
    assert found.brier.estimate == pytest.approx(brier(p, y), rel=1e-13)
    assert found.ece.estimate == pytest.approx(ece(p, y), rel=1e-12)


@given(predictions(), st.integers(1, 40))
def test_bins_cut_no_tie_and_the_ece_is_its_sum(both, bins):
    p, y = both
    confidence, right = p.max(-1).ravel(), (p.argmax(-1) == y).ravel()
    bin_of = bins_by_confidence(confidence, bins)
    expected = 0.0
    for b in range(bin_of.max() + 1):
        here = bin_of == b
        assert here.any()
        assert not set(confidence[here]) & set(confidence[~here])
        assert b == 0 or confidence[here].min() > confidence[bin_of == b - 1].max()
        expected += here.mean() * abs(right[here].mean() - confidence[here].mean())
    assert bin_of.max() < bins
    found = reliability(p, y, bins=bins)
    assert found.ece == pytest.approx(expected, abs=1e-12)
    assert 0 <= found.calibrated_ece <= 0.5 + 1e-9
    assert (found.calibrated_low <= found.calibrated_high).all()


@given(st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), min_size=1, max_size=40))
def test_the_number_of_right_ones_has_its_exact_distribution(chances):
    expected = np.ones(1)
    for chance in chances:
        expected = np.convolve(expected, [1 - chance, chance])
    np.testing.assert_allclose(distribution_of_right(np.asarray(chances)), expected, atol=1e-14)


def test_the_value_under_calibration_is_the_mean_over_labels_drawn():
    p, _ = drawn((4, 2, 3))
    bins, expected = 3, 0.0
    confidence = p.max(-1).ravel()
    for right in itertools.product([0, 1], repeat=8):
        chance = np.prod(np.where(right, confidence, 1 - confidence))
        labels = np.where(np.asarray(right).reshape(4, 2), p.argmax(-1), p.argmin(-1))
        expected += chance * ece(p, labels, bins=bins)
    found = reliability(p, p.argmax(-1), bins=bins)
    assert found.calibrated_ece == pytest.approx(expected, rel=1e-12)


def test_thousands_in_a_bin_deviate_as_the_normal_says():
    p = np.full((1, 30_000, 2), [0.7, 0.3])
    found = reliability(p, np.zeros((1, 30_000), dtype=int), bins=1)
    spread = math.sqrt(0.21 / 30_000)
    assert found.calibrated_ece == pytest.approx(spread * math.sqrt(2 / math.pi), rel=1e-4)
    assert found.calibrated_low[0] == pytest.approx(0.7 - 1.96 * spread, abs=4e-5)
    assert found.calibrated_high[0] == pytest.approx(0.7 + 1.96 * spread, abs=4e-5)


def test_calibrated_predictions_have_no_squared_error_and_overconfident_ones_theirs():
    p, y = drawn((4000, 5, 4))
    found = reliability(p, y)
    assert abs(found.squared_error) < 2e-4
    assert found.ece < 2 * found.calibrated_ece
    p, y = drawn((4000, 5, 4), sharpen=3)
    found = reliability(p, y)
    assert found.ece > 10 * found.calibrated_ece
    assert found.squared_error == pytest.approx(np.mean((found.accuracy - found.confidence) ** 2), rel=0.01)


def test_the_squared_error_is_unbiased_where_the_biased_one_is_not():
    rng = np.random.default_rng(0)
    p = np.tile([[0.8, 0.2]], (10, 1, 1))
    values = [
        reliability(p, (rng.random((10, 1)) > 0.7).astype(int), bins=1).squared_error for _ in range(1500)
    ]
    assert np.mean(values) == pytest.approx(0.01, abs=0.003)  # against 0.031 without the correction


@given(predictions(), st.integers(1, 40))
def test_the_brier_score_is_the_sum_of_its_parts(both, bins):
    p, y = both
    parts = brier_parts(p, y, bins=bins)
    total = parts.calibration - parts.resolution + parts.uncertainty + parts.within
    assert total == pytest.approx(brier(p, y), abs=1e-12)


def test_predictions_alike_within_bins_leave_murphys_parts_alone():
    p = np.repeat([[[0.9, 0.1]], [[0.6, 0.4]]], 4, axis=0)
    y = np.asarray([0, 0, 0, 1, 0, 1, 1, 0])[:, None]
    parts = brier_parts(p, y, bins=8)
    expected = (0.5 * (0.15**2 + 0.1**2) * 2, 0.125**2 * 2, 2 * 0.625 * 0.375, 0.0)
    np.testing.assert_allclose(parts, expected, atol=1e-15)
    assert brier_parts(p[..., ::-1], 1 - y, bins=8) == parts  # classes have no order


@pytest.mark.parametrize("right", [True, False])
def test_certainty(right):
    p = np.tile([[1.0, 0.0]], (3, 2, 1))
    y = np.full((3, 2), 0 if right else 1)
    found = calibration(p, y)
    assert found.ece.estimate == (0 if right else 1)
    assert found.bins.calibrated_ece == pytest.approx(0, abs=1e-14)
    assert found.nll.estimate == (0 if right else math.inf)
    assert found.brier.estimate == (0 if right else 2)
    assert repr(found)


def test_a_task_alone_says_nothing_of_others():
    p, y = drawn((1, 5, 3))
    found = calibration(p, y)
    assert found.ece.high == found.nll.high == math.inf
    assert found.ece.units == 1


def test_intervals_are_over_tasks_whatever_the_queries():
    p, y = drawn((30, 1, 4))
    once, often = calibration(p, y), calibration(np.repeat(p, 7, axis=1), np.repeat(y, 7, axis=1))
    assert often.nll.low == pytest.approx(once.nll.low, rel=1e-12)
    assert often.ece.low == pytest.approx(once.ece.low, rel=1e-9)
    assert often.ece.high == pytest.approx(once.ece.high, rel=1e-9)


def test_the_jackknife_leaves_out_each_task():
    p, y = drawn((12, 3, 4), sharpen=4)
    found = calibration(p, y, bins=1)
    # In one bin, and all too sure, the ECE is the mean of the gaps: the jackknife is Student's interval.
    gaps = (p.max(-1) - (p.argmax(-1) == y)).mean(axis=1)
    half = 2.200985160 * gaps.std(ddof=1) / math.sqrt(12)
    assert found.ece.high - found.ece.estimate == pytest.approx(half, rel=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_has_the_same_numbers(dtype):
    p, y = drawn()
    torch = mltk.backend("torch", dtype=dtype)
    p = p.astype(dtype)
    assert calibration(torch.asarray(p), torch.asarray(y)).to_dict() == calibration(p, y).to_dict()


def test_the_dict_is_json():
    p, y = drawn()
    found = calibration(p, y)
    loaded = json.loads(json.dumps(found.to_dict()))
    assert loaded["ece"]["estimate"] == found.ece.estimate
    assert loaded["bins"]["counts"] == found.bins.counts.tolist()
    assert loaded["bins"]["calibrated_ece"] == found.bins.calibrated_ece


@pytest.mark.parametrize(
    ("p", "y", "match"),
    [
        (np.ones((2, 3, 2)), np.zeros((2, 3), int), "sum over classes of 2"),
        (np.tile([1.5, -0.5], (2, 3, 1)), np.zeros((2, 3), int), "holds -0.5"),
        (np.full((2, 3, 2), np.nan), np.zeros((2, 3), int), "NaN"),
        (np.full((2, 3, 2), 0.5), np.zeros((2, 2), int), r"labels has shape \(2, 2\); expected \(2, 3\)"),
        (np.full((2, 3, 2), 0.5), np.full((2, 3), 2), "label 2"),
        (np.full((2, 3, 2), 0.5), np.zeros((2, 3)), "dtype float64"),
        (np.full((2, 3, 2), 1), np.zeros((2, 3), int), "dtype int64"),
        (np.full(2, 0.5), np.zeros(2, int), r"expected \(T, M, ways\)"),
        (np.zeros((0, 3, 2)), np.zeros((0, 3), int), "at least one"),
        ([[0.5, 0.5]], np.zeros(1, int), "expected an array"),
    ],
)
def test_what_are_no_probabilities_or_labels_is_told(p, y, match):
    for function in (calibration, ece, nll, brier, brier_parts, reliability):
        with pytest.raises(MltkError, match=match):
            function(p, y)


def test_examples_without_tasks_are_tasks_themselves():
    p, y = drawn((20, 1, 3))
    assert calibration(p[:, 0], y[:, 0]).to_dict() == calibration(p, y).to_dict()
