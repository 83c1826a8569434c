"""Comparisons on the same tasks: p-values against SciPy and enumeration, intervals of differences."""

import tracemalloc
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mltk.errors import NotFiniteError, SettingError, ShapeError
from mltk.evaluation import Evaluation, compare, compare_all, holm, sign_flips


def enumerated(differences):
    """The p-value by its definition."""
    sums = [abs(np.dot(signs, differences)) for signs in product((-1, 1), repeat=len(differences))]
    return np.mean(np.asarray(sums) >= abs(np.sum(differences)) - 1e-9 * np.abs(differences).sum())


@settings(max_examples=60)
@given(
    st.lists(st.integers(-6, 6), min_size=1, max_size=9), st.sampled_from([1.0, 1 / 15, 1e-7, 1e7, 2 / 75])
)
def test_sums_of_multiples_are_counted(whole, unit):
    differences = unit * np.asarray(whole, dtype=float)
    found = sign_flips(differences)
    assert found.exact
    assert found.p == pytest.approx(enumerated(differences), abs=1e-12)


@settings(max_examples=20)
@given(st.lists(st.floats(-1, 1).map(lambda x: round(x, 6)), min_size=1, max_size=9))
def test_few_differences_are_enumerated(differences):
    # In millionths, sums are equal or far apart: what counts as equal is not in question.
    found = sign_flips(np.asarray(differences))
    assert found.exact
    assert found.p == pytest.approx(enumerated(np.asarray(differences)), abs=1e-12)


@pytest.mark.parametrize("queries", [25, 75, 1])
def test_many_accuracies_are_counted_as_scipy_samples_them(queries):
    rng = np.random.default_rng(queries)
    differences = (rng.binomial(queries, 0.8, 300) - rng.binomial(queries, 0.79, 300)) / queries
    found = sign_flips(differences)
    assert found.exact
    sampled = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=4000, rng=np.random.default_rng(0)
    ).pvalue
    assert found.p == pytest.approx(sampled, abs=5 * np.sqrt(sampled * (1 - sampled) / 4000) + 1e-3)


def test_many_other_differences_are_sampled_with_the_seed():
    differences = np.random.default_rng(0).normal(0.1, 1, 50)
    found = sign_flips(differences)
    assert not found.exact
    assert found == sign_flips(differences)
    assert found.p == pytest.approx(sign_flips(differences, seed=1).p, abs=0.03)
    normal = 2 * stats.norm.sf(abs(differences.sum()) / np.sqrt((differences**2).sum()))
    assert found.p == pytest.approx(normal, abs=0.03)
    assert sign_flips(1000 + differences).p == 1 / 10_000


def test_signs_are_drawn_in_parts_of_bounded_memory():
    differences = np.random.default_rng(0).normal(0.01, 1, 4000)
    tracemalloc.start()
    found = sign_flips(differences)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20  # all signs at once are 320 MB
    normal = 2 * stats.norm.sf(abs(differences.sum()) / np.sqrt((differences**2).sum()))
    assert found.p == pytest.approx(normal, abs=0.03)


@pytest.mark.parametrize("bad", [[], [[0.1, 0.2]]])
def test_differences_are_one_a_task(bad):
    with pytest.raises(ShapeError, match="differences has shape"):
        sign_flips(np.asarray(bad))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_difference_that_is_no_number_is_no_evidence(bad):
    with pytest.raises(NotFiniteError, match="a difference is NaN or infinite"):
        sign_flips(np.asarray([0.1, bad, 0.2]))


def test_without_any_difference_nothing_is_found():
    assert sign_flips(np.zeros(30)) == (1.0, True)
    same = Evaluation("accuracy", np.full(30, 0.8))
    found = compare(same, same)
    assert (found.wilcoxon, found.sign_flip, found.ties) == (1.0, 1.0, 30)


def test_p_values_are_valid_where_nothing_differs():
    rng = np.random.default_rng(0)
    p = np.asarray([sign_flips(rng.integers(-4, 5, 12) / 15).p for _ in range(1000)])
    for level in (0.01, 0.05, 0.2, 0.5):
        assert np.mean(p <= level) <= level + 3 * np.sqrt(level * (1 - level) / 1000)
    assert np.mean(p <= 0.2) > 0.12


def evaluation(seed, shift=0.0, tasks=40):
    rng, own = np.random.default_rng(0), np.random.default_rng(seed)
    base, classes = rng.normal(0.7, 0.1, tasks), rng.integers(0, 12, (tasks, 3))
    return Evaluation(
        "accuracy", base + shift + own.normal(0, 0.03, tasks), classes=classes, groups=classes % 4
    )


def test_a_comparison_is_about_the_differences():
    x, y = evaluation(1, 0.02), evaluation(2)
    apart = Evaluation("accuracy", x.values - y.values, classes=x.classes, groups=x.groups)
    for over in ("tasks", "classes", "groups"):
        assert compare(x, y, over=over).difference == apart.interval(over)
    found = compare(x, y, names=("new", "old"))
    assert (found.wins, found.ties, found.losses) == (
        (apart.values > 0).sum(), (apart.values == 0).sum(), (apart.values < 0).sum()
    )  # fmt: skip
    assert found.wilcoxon == pytest.approx(stats.wilcoxon(apart.values).pvalue)
    other = compare(y, x, names=("old", "new"))
    assert other.sign_flip == pytest.approx(found.sign_flip, abs=1e-3)
    assert other.difference.estimate == -found.difference.estimate
    assert str(found).startswith("new − old: accuracy +0.0")
    # The tests are about tasks, whatever the interval is over.
    assert "p over tasks = " in str(compare(x, y, over="groups"))
    assert found.to_dict()["difference"]["over"] == "tasks"
    # Pairing takes away what the tasks share.
    assert found.difference.half_width < 0.5 * x.interval().half_width


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), min_size=1, max_size=60))
def test_accuracies_are_ranked_as_their_counts_are(counts):
    # 20/25 − 15/25 and 15/25 − 10/25 differ by rounding, and share a rank all the same.
    a, b = np.asarray(counts).T
    found = compare(Evaluation("accuracy", a / 25), Evaluation("accuracy", b / 25))
    expected = stats.wilcoxon(a - b, zero_method="pratt").pvalue if (a != b).any() else 1.0
    assert found.wilcoxon == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_all_pairs_are_corrected_together():
    evaluations = {"a": evaluation(1, 0.03), "b": evaluation(2), "c": evaluation(3)}
    found = compare_all(evaluations, over="classes")
    assert [each.names for each in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    np.testing.assert_allclose(
        [each.holm for each in found], holm(np.asarray([each.sign_flip for each in found]))
    )
    assert found[0].holm > found[0].sign_flip
    assert all(each.difference.over == "classes" for each in found)


def test_holm_steps_down():
    np.testing.assert_allclose(holm(np.asarray([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.asarray([0.9, 0.8])), [1.0, 1.0])
    np.testing.assert_allclose(holm(np.asarray([0.02])), [0.02])
    assert holm(np.zeros(0)).size == 0


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0.001, 0.999))
def test_holm_rejects_as_the_procedure_does(p, level):
    rejected, ordered = set(), sorted(range(len(p)), key=p.__getitem__)
    for done, each in enumerate(ordered):
        if p[each] * (len(p) - done) > level:
            break
        rejected.add(each)
    assert set(np.flatnonzero(holm(np.asarray(p)) <= level)) == rejected


def test_evaluations_of_other_tasks_are_refused():
    with pytest.raises(ShapeError, match="40 and 39 tasks are not of the same"):
        compare(evaluation(1), evaluation(2, tasks=39))
    moved = Evaluation("accuracy", evaluation(1).values, classes=evaluation(1).classes + 1)
    with pytest.raises(ShapeError, match="not of the same"):
        compare(evaluation(1), moved)
    with pytest.raises(SettingError, match="the metrics are accuracy and mse"):
        compare(evaluation(1), Evaluation("mse", evaluation(1).values))


def test_runs_are_paired():
    draws = np.random.default_rng(0).uniform(size=(2, 3, 30))
    x, y = (Evaluation("accuracy", each.mean(0), by_run=each) for each in draws)
    found = compare(x, y, over="seeds")
    assert " over seeds; " in str(found)
    apart = draws[0] - draws[1]
    same = Evaluation("accuracy", apart.mean(0), by_run=apart).interval("seeds")
    assert found.difference == same
    with pytest.raises(ShapeError, match="3 and 2 runs"):
        compare(x, Evaluation("accuracy", y.values, by_run=draws[1, :2]))
    with pytest.raises(SettingError, match="y is list"):
        compare(x, [1, 2])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"values": np.zeros(0)}, "values has shape"),
        ({"values": np.zeros((3, 1))}, "values has shape"),
        ({"classes": np.zeros((2, 2), int)}, "classes has shape"),
        ({"groups": np.zeros(3, int)}, "groups has shape"),
        ({"by_run": np.zeros((2, 4))}, "by_run has shape"),
    ],
)
def test_an_evaluation_is_of_its_tasks(wrong, said):
    with pytest.raises(ShapeError, match=said):
        Evaluation("accuracy", **{"values": np.zeros(3)} | wrong)
    with pytest.raises(SettingError, match="values is list; expected a NumPy array"):
        Evaluation("accuracy", [0.5])
    with pytest.raises(SettingError, match="one run"):
        Evaluation("accuracy", np.zeros(3), by_run=np.zeros((1, 3))).interval("seeds")


def test_many_differences_are_drawn_and_agree_with_the_normal_law():
    steps = np.random.default_rng(0).integers(-90, 92, 20_000)
    found = sign_flips(steps / 500)
    normal = 2 * stats.norm.sf(abs(steps.sum()) / np.sqrt((steps**2).sum()))
    assert not found.exact
    assert found.p == pytest.approx(normal, abs=0.02)
