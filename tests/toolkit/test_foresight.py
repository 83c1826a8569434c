"""Areas and correlations with intervals over classes: against scikit-learn, and what weights change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logit
from scipy.stats import t as student

from mltk.toolkit.folds import folds_apart
from mltk.toolkit.foresight import Identities, auroc, correlation, foresight

metrics = pytest.importorskip("sklearn.metrics", reason="the oracle of these is scikit-learn")


def case(seed, tasks=40, ties=True):
    rng = np.random.default_rng(seed)
    risks = rng.integers(0, 8, tasks) / 8 if ties else rng.uniform(size=tasks)
    failed = rng.uniform(size=tasks) < 0.2 + 0.5 * risks
    failed[:2] = True, False
    return risks, failed


@given(seed=st.integers(0, 10**6), tasks=st.integers(2, 60), ties=st.booleans())
def test_the_area_is_that_of_scikit_learn(seed, tasks, ties):
    risks, failed = case(seed, tasks, ties)
    area, influences = auroc(risks, failed)
    assert area == pytest.approx(metrics.roc_auc_score(failed, risks), abs=1e-12)
    assert influences.mean() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_influences_are_what_a_little_more_weight_changes(seed):
    risks, failed = case(seed)
    outcomes = np.random.default_rng(seed).normal(size=40) + risks
    _, of_area = auroc(risks, failed)
    _, of_r = correlation(risks, outcomes)

    def weighted(weights):
        covariance = np.cov(risks, outcomes, aweights=weights)
        r = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
        return np.asarray([metrics.roc_auc_score(failed, risks, sample_weight=weights), r])

    for task in (0, 1, 17):
        step = 1e-5 * (np.arange(40) == task)
        slope = (weighted(1 + step) - weighted(1 - step)) / 2e-5 * 40
        np.testing.assert_allclose([of_area[task], of_r[task]], slope, atol=1e-6)


def test_the_correlation_is_that_of_numpy():
    x, y = np.random.default_rng(0).normal(size=(2, 50))
    r, influences = correlation(x, x + y)
    assert r == pytest.approx(np.corrcoef(x, x + y)[0, 1], abs=1e-14)
    assert influences.mean() == pytest.approx(0, abs=1e-14)


def judged(outcomes, risks, *, expected=None, of=None, beside=None):
    return foresight(
        "accuracy",
        0.5,
        outcomes,
        risks=risks,
        expected=-risks if expected is None else expected,
        of=Identities() if of is None else of,
        beside=beside,
    )


def test_a_gain_is_paired():
    """Of the same values, shifted and stretched, there is none, and that is known exactly."""
    rng = np.random.default_rng(0)
    outcomes, risks = rng.uniform(size=(2, 100))
    found = judged(outcomes, risks, beside=("confidence", 3 - 2 * risks))
    assert found.correlation.estimate == pytest.approx(found.correlation_beside.estimate, abs=1e-12)
    assert found.gain.estimate == pytest.approx(0, abs=1e-12)
    assert found.gain.half_width < 1e-10
    other = judged(outcomes, risks, expected=outcomes + 0.1 * risks, beside=("confidence", risks))
    assert other.gain.low > 0.5


def test_intervals_are_over_classes_where_tasks_of_a_class_are_alike():
    """Thirty copies of each class's task tell nothing more of other classes."""
    rng = np.random.default_rng(1)
    outcomes, risks = (np.repeat(each, 30) for each in rng.uniform(size=(2, 20)))
    classes = np.repeat(np.arange(20), 30)[:, None]
    over_tasks = judged(outcomes, risks)
    over_classes = judged(outcomes, risks, of=Identities(classes))
    alone = judged(outcomes[::30], risks[::30])
    for name in ("auroc", "correlation"):
        wide, narrow, few = (getattr(each, name) for each in (over_classes, over_tasks, alone))
        assert (wide.over, narrow.over) == ("classes", "tasks")
        assert wide.estimate == pytest.approx(few.estimate, abs=1e-12)
        assert wide.half_width > 4 * narrow.half_width
        assert wide.half_width == pytest.approx(few.half_width, rel=0.15)


@pytest.mark.parametrize("seed", range(5))
def test_an_area_lies_in_an_interval_that_ends_within_0_and_1(seed):
    """Of few tasks that are nearly told apart, and of their risks turned round."""
    rng = np.random.default_rng(seed)
    outcomes = rng.uniform(size=20)
    risks = np.where(outcomes < 0.5, 1.0, 0.0) + rng.normal(0, 0.3, 20)
    risks[outcomes.argmin()] = 0.5 * (np.sort(risks)[[5, 6]]).sum()
    found, turned = judged(outcomes, risks).auroc, judged(outcomes, -risks).auroc
    assert 0 < found.low < found.estimate < found.high < 1
    assert (turned.low, turned.high) == pytest.approx((1 - found.high, 1 - found.low))
    ends = logit([found.low, found.estimate, found.high])
    _, influences = auroc(risks, outcomes < 0.5)
    error = influences.std(ddof=1) / 20**0.5 / (found.estimate * (1 - found.estimate))
    assert np.diff(ends) == pytest.approx([student.ppf(0.975, 19) * error] * 2)


def test_scores_are_the_formulas():
    found = judged(np.asarray([0.4, 0.9, 0.9, 0.1]), np.asarray([0.9, 0.2, 0.5, 0.4]))
    assert (found.tasks, found.failures, found.mean_risk) == (4, 2, 0.5)
    assert found.brier == pytest.approx((0.01 + 0.04 + 0.25 + 0.36) / 4)
    assert found.brier_of_the_rate == 0.25
    assert found.auroc.estimate == 0.75
    assert found.selective.risk.tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])


@pytest.mark.parametrize("expected", [np.full(4, 0.5), np.asarray([0.5, np.nan, 0.5, 0.1])])
def test_where_nothing_varies_nothing_is_known(expected):
    found = judged(np.full(4, 0.9), np.linspace(0, 1, 4), expected=expected)
    assert np.isnan(found.auroc.estimate)
    assert np.isnan(found.correlation.estimate)
    assert "because" in repr(found)


@pytest.mark.parametrize("ways", [1, 2, 3])
def test_tasks_of_sets_that_share_nothing_are_held_out_together(ways):
    rng = np.random.default_rng(0)
    alphabet = rng.integers(0, 12, size=150)
    classes = 10 * alphabet[:, None] + rng.integers(0, 3, size=(150, ways))
    classes[::7, -1] = -1
    folds, apart = folds_apart(classes, 150, 4, seed=0)
    held = np.concatenate([part for _, part in folds])
    assert apart
    assert len(folds) == 4
    assert np.sort(held).tolist() == list(range(150))
    for rest, part in folds:
        shared = np.intersect1d(classes[rest], classes[part])
        assert set(shared) <= {-1}


@given(tasks=st.integers(5, 120), ways=st.integers(1, 6), pool=st.integers(6, 2000), seed=st.integers(0, 99))
def test_no_fold_learns_from_what_it_holds_out(tasks, ways, pool, seed):
    rng = np.random.default_rng(seed)
    classes = np.stack([rng.choice(pool, ways, replace=False) for _ in range(tasks)])
    folds, apart = folds_apart(classes, tasks, 5, seed=seed)
    held = np.concatenate([part for _, part in folds])
    assert held.size == np.unique(held).size
    for rest, part in folds:
        assert rest.size
        assert not np.intersect1d(rest, part).size
        assert not (apart and np.intersect1d(classes[rest], classes[part]).size)
    if apart:
        assert np.median([rest.size for rest, _ in folds]) > tasks / 3
    assert apart or held.size == tasks


def test_few_classes_cannot_be_kept_apart_and_that_is_said():
    classes = np.stack([np.random.default_rng(task).permutation(6)[:5] for task in range(50)])
    assert not folds_apart(classes, 50, 5, seed=0)[1]
    assert not folds_apart(None, 50, 5, seed=0)[1]
    many = np.random.default_rng(0).integers(0, 5000, size=(50, 5))
    assert folds_apart(many, 50, 5, seed=0)[1]
