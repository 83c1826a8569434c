"""Learners over datasets: ranks, their critical difference, and differences that matter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from mltk.errors import NotFiniteError, SettingError, ShapeError
from mltk.evaluation import Evaluation, LearnerOutcome, Table, rank_over_datasets, rank_tables, signed_rank

# Demšar (2006), table 6: AUC of C4.5 alone, with m, with cf, and with both, on 14 datasets.
TABLE = np.asarray([
    [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
    [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
    [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
])  # fmt: skip
NAMES = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")


def test_the_published_example():
    found = rank_over_datasets(TABLE, NAMES)
    np.testing.assert_allclose(found.ranks, [3.143, 2.000, 2.893, 1.964], atol=5e-4)
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    ninety = rank_over_datasets(TABLE, NAMES, level=0.9)
    assert ninety.critical_difference == pytest.approx(1.12, abs=0.005)
    assert ninety.groups == [("C4.5+m+cf", "C4.5+m", "C4.5+cf"), ("C4.5+cf", "C4.5")]
    assert found.groups == [("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5")]


@settings(max_examples=40)
@given(hnp.arrays(np.float64, (6, 4), elements=st.integers(0, 3).map(float)))
def test_friedman_is_scipys_with_ties(scores):
    found = rank_over_datasets(scores, "abcd")
    if all(len(set(row)) == 1 for row in scores):
        assert found.friedman == 1.0
        return
    expected = stats.friedmanchisquare(*scores.T)
    assert found.friedman == pytest.approx(expected.pvalue, rel=1e-9)
    if expected.statistic < 17.9:
        f = 5 * expected.statistic / (18 - expected.statistic)
        assert found.iman_davenport == pytest.approx(stats.f.sf(f, 3, 15), rel=1e-8)


def test_errors_are_ranked_the_other_way_round():
    found = rank_over_datasets(1 - TABLE, NAMES, smaller_is_better=True)
    np.testing.assert_array_equal(found.ranks, rank_over_datasets(TABLE, NAMES).ranks)


def test_groups_overlap_and_are_as_large_as_can_be():
    scores = np.tile(-np.arange(5.0), (12, 1))
    found = rank_over_datasets(scores, "abcde")
    assert 1 < found.critical_difference < 2
    assert found.groups == [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")]
    assert found.iman_davenport == 0.0


def test_the_bayesian_test_is_that_of_baycomp():
    baycomp = pytest.importorskip("baycomp", reason="baycomp is not installed")
    rng = np.random.default_rng(0)
    for shift, rope in ((0.004, 0.01), (0.02, 0.01), (-0.01, 0.005)):
        y = rng.uniform(0.5, 0.9, 15)
        x = y + shift + rng.normal(0, 0.02, 15)
        worse, alike, better = baycomp.two_on_multiple(y, x, rope=rope)  # its left is its first
        found = signed_rank(x - y, rope)
        np.testing.assert_allclose(found, [better, alike, worse], atol=0.012)


@settings(max_examples=20)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8), st.floats(0, 0.5))
def test_the_three_add_up_and_turn_round(differences, rope):
    found = signed_rank(np.asarray(differences), rope, samples=500)
    assert sum(found) == pytest.approx(1)
    turned = signed_rank(-np.asarray(differences), rope, samples=500)
    assert turned.better == pytest.approx(found.worse)
    assert turned.equivalent == pytest.approx(found.equivalent)


def test_differences_that_are_clear_are_called_so():
    assert signed_rank(np.full(20, 0.05), 0.01).better > 0.99
    assert signed_rank(np.full(20, 0.001), 0.01).equivalent == 1.0


def test_tasks_are_no_datasets():
    tasks = Evaluation("accuracy", np.full(10, 0.5))
    outcome = LearnerOutcome(tasks, tasks.values, None, None, 0.0)
    table = Table({"a": outcome, "b": outcome}, 0, None)
    for each in (tasks, table, [tasks, tasks], [table]):
        with pytest.raises(SettingError, match="values of tasks of one dataset"):
            rank_over_datasets(each, "ab")
        with pytest.raises(SettingError, match="values of tasks of one dataset"):
            signed_rank(each, 0.01)


@pytest.mark.parametrize("scores", [[["x", "y"], ["z", "w"]], [[1.0, 2.0], [1.0]], [[None, object()]]])
def test_what_is_no_array_of_numbers_is_refused(scores):
    with pytest.raises(ShapeError, match="no array of numbers"):
        rank_over_datasets(scores, "ab")


@pytest.mark.parametrize("scores", [TABLE[:1], TABLE[:, :1], TABLE[0], TABLE[:, :3]])
def test_scores_have_two_datasets_and_a_name_for_each_learner(scores):
    with pytest.raises(ShapeError, match="scores has shape"):
        rank_over_datasets(scores, NAMES)


def test_bad_numbers_are_refused():
    with pytest.raises(NotFiniteError):
        rank_over_datasets(TABLE * np.nan, NAMES)
    with pytest.raises(SettingError, match="level is 5"):
        rank_over_datasets(TABLE, NAMES, level=5)
    with pytest.raises(SettingError, match="rope is -1"):
        signed_rank([0.1], -1)
    with pytest.raises(ShapeError, match="differences has shape"):
        signed_rank([], 0.1)


def table(metric="accuracy", **values):
    outcomes = {
        name: LearnerOutcome(Evaluation(metric, np.asarray(each)), np.asarray(each), None, None, 0.1)
        for name, each in values.items()
    }
    return Table(outcomes, 0, None)


@pytest.mark.parametrize("metric", ["accuracy", "mse"])
def test_tables_of_several_datasets_are_ranked_by_their_means(metric):
    rng = np.random.default_rng(0)
    drawn = rng.uniform(0.1, 0.9, (6, 3, 20))
    tables = {f"set {k}": table(metric, c=c, a=a, b=b) for k, (a, b, c) in enumerate(drawn)}
    tables["set 3"] = table(metric, a=drawn[3, 0], b=drawn[3, 1], c=drawn[3, 2])  # in another order
    found = rank_tables(tables, level=0.9)
    expected = rank_over_datasets(drawn.mean(axis=2), "abc", level=0.9, smaller_is_better=metric == "mse")
    np.testing.assert_array_equal(found.ranks, expected.ranks)
    assert vars(found) | {"ranks": 0} == vars(expected) | {"ranks": 0}


def test_tables_that_are_not_of_several_datasets_are_refused():
    one, other = table(a=[0.5, 0.6], b=[0.4, 0.2]), table(a=[0.7, 0.6], b=[0.1, 0.9])
    with pytest.raises(SettingError, match="the tables of x and y are of the same tasks"):
        rank_tables({"x": one, "y": one, "z": other})
    with pytest.raises(SettingError, match="the table of x has a, b; expected a, b, c in each table"):
        rank_tables({"x": one, "y": table(a=[1.0], b=[1.0], c=[1.0])})
    with pytest.raises(SettingError, match="one metric"):
        rank_tables({"x": one, "y": table("mse", a=[0.7, 0.6], b=[0.1, 0.9])})
    with pytest.raises(SettingError, match="expected a dict of tables"):
        rank_tables([one, other])
