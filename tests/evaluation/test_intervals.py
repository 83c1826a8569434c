"""Intervals over tasks, classes, groups and seeds: what they estimate, and how often they hold it."""

from itertools import permutations

import coverage
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

import mltk
from mltk.errors import SettingError
from mltk.evaluation import Evaluation, compare, crossed, jackknife

NUMPY = mltk.backend("numpy")
PLAIN = mltk.algorithms.Prototypical(mltk.models.Sequential([]))
FLAT = mltk.algorithms.Prototypical(mltk.models.Sequential([mltk.ops.Flatten()]))


def parts(values, numbers):
    """The jackknife by its definition: every class left out in turn."""
    classes = sorted(set(numbers.ravel()) - {-1})
    means = [values[~(numbers == each).any(axis=1)].mean() for each in classes]
    return (len(classes) - 1) / len(classes) * np.sum((means - np.mean(means)) ** 2)


@st.composite
def results(draw):
    tasks = draw(st.integers(3, 6))
    ways = draw(st.integers(1, 3))
    numbers = draw(hnp.arrays(np.int64, (tasks, ways), elements=st.integers(-1, 4)))
    values = draw(hnp.arrays(np.float64, tasks, elements=st.sampled_from([0.0, 0.2, 0.6, 0.8, 1.0])))
    return values, numbers


@settings(max_examples=60)
@given(results())
def test_what_chance_makes_is_the_mean_of_the_jackknife_over_all_permutations(found):
    values, numbers = found
    of = jackknife.units(numbers)
    without = [(~(numbers == each).any(axis=1)).sum() for each in sorted(set(numbers.ravel()) - {-1})]
    variance, freedom = jackknife.variance(values, of)
    if len(without) < 2 or min(without) == 0:
        assert variance == np.inf
        return
    v = parts(values, numbers)
    chance = np.mean([parts(np.asarray(order), numbers) for order in permutations(values)])
    spread = values.var(ddof=1) / len(values)
    assert variance == pytest.approx(max(v - chance, 0) + spread, abs=1e-15)
    assert 1 <= freedom <= max(len(without) - 1, 1)


@settings(max_examples=30)
@given(results(), st.floats(-1e6, 1e6), st.sampled_from([1e-150, 1.0, 1e150]), st.randoms())
def test_names_order_level_and_scale_do_not_matter(found, shift, scale, random):
    values, numbers = found
    of = jackknife.units(numbers)
    expected, freedom = jackknife.variance(values, of)
    names = random.sample(range(100), 5)
    order = random.sample(range(len(values)), len(values))
    renamed = np.where(numbers < 0, -1, np.asarray(names)[numbers])[order]
    other, others = jackknife.variance(values[order], jackknife.units(renamed))
    assert other == pytest.approx(expected, rel=1e-12, abs=1e-18)
    assert others == pytest.approx(freedom, rel=1e-9)
    scaled, _ = jackknife.variance(scale * values, of)
    assert scaled / scale / scale == pytest.approx(expected, rel=1e-12)
    moved, _ = jackknife.variance(values + shift, of)
    assert moved == pytest.approx(expected, rel=1e-6, abs=1e-12)


def widths(rng, lost):
    """How much wider the interval over classes is where the first three cost some accuracy."""
    chosen = coverage.subsets(rng, 30)
    values = rng.normal(0.8, 0.05, 600) - lost * (chosen < 3).any(axis=1)
    found = Evaluation("accuracy", values, classes=chosen)
    return found.interval("classes").half_width / found.interval().half_width


def test_classes_that_are_alike_cost_little_and_hard_ones_a_lot():
    draws = [np.random.default_rng(seed) for seed in range(30)]
    assert np.median([widths(rng, 0.0) for rng in draws]) < 1.5
    assert min(widths(rng, 0.4) for rng in draws) > 3


@pytest.mark.parametrize("classes", [20, 100, 400])
def test_intervals_over_classes_hold_the_truth_as_often_as_they_say(classes):
    found = coverage.coverage(lambda rng: coverage.judged(rng, classes), ("tasks", "classes"), sets=1000)
    assert 0.93 <= found["classes"] <= 0.97
    assert found["tasks"] < 0.85


@pytest.mark.parametrize("groups", [8, 20])
def test_so_do_those_over_groups(groups):
    over = ("tasks", "classes", "groups")
    found = coverage.coverage(lambda rng: coverage.judged(rng, 10 * groups, groups), over, sets=400)
    assert 0.92 <= found["groups"] <= 0.985
    assert found["tasks"] < found["classes"] < 0.9


@pytest.mark.parametrize(("runs", "apart"), [(5, 0.02), (2, 0.04)])
def test_so_do_those_over_seeds(runs, apart):
    over = ("tasks", "classes", "seeds")
    found = coverage.coverage(lambda rng: coverage.trainings(rng, 40, runs, apart), over, sets=500)
    assert 0.93 <= found["seeds"] <= 0.985
    assert found["tasks"] < found["classes"] < found["seeds"] - 0.02


def test_without_classes_the_trainings_are_crossed_with_the_tasks():
    values = np.random.default_rng(0).normal(size=(3, 4))
    found = crossed.variances(values, None)
    grand = values.mean()
    rows, columns = values.mean(1) - grand, values.mean(0) - grand
    apart = values - grand - rows[:, None] - columns
    seeds, tasks, both = (rows**2).sum() / 6, (columns**2).sum() / 12, (apart**2).sum() / (3 * 4 * 2 * 3)
    rest = max(tasks - both, tasks - seeds, 0)
    np.testing.assert_allclose(found, [(seeds, 2), (rest, 3)])
    interval = Evaluation("mse", values.mean(0), by_run=values).interval("seeds")
    half = (stats.t.ppf(0.975, 2) ** 2 * seeds + stats.t.ppf(0.975, 3) ** 2 * rest) ** 0.5
    assert (interval.low, interval.high) == pytest.approx((grand - half, grand + half))
    assert "over seeds)" in str(interval)


def test_trainings_that_are_the_same_add_nothing():
    found = coverage.judged(np.random.default_rng(1), 50)
    twice = Evaluation("accuracy", found.values, classes=found.classes, by_run=np.stack([found.values] * 4))
    classes, both = found.interval("classes"), twice.interval("seeds")
    assert (both.low, both.high) == pytest.approx((classes.low, classes.high))
    assert both.over == "seeds and classes"


def test_several_runs_meet_the_same_tasks(backend64):
    learner = mltk.algorithms.MAML(mltk.models.mlp([4, 4]), "cross_entropy", inner_lr=0.1)
    tasks = mltk.data.Blobs(ways=4, shots=1, queries=3)
    params = [learner.init(backend64, seed) for seed in range(3)]
    alone = [mltk.evaluate(learner, each, tasks, episodes=30, seed=2).values for each in params]
    together = mltk.evaluate(learner, params, tasks, episodes=30, seed=2)
    np.testing.assert_array_equal(together.by_run, alone)
    np.testing.assert_allclose(together.values, np.mean(alone, axis=0), atol=1e-15)
    assert mltk.evaluate(learner, params[:1], tasks, episodes=30).by_run is None


def test_an_evaluation_knows_the_classes_and_groups_of_its_tasks():
    glyphs = mltk.data.Glyphs(alphabets=3)
    tasks = glyphs.tasks(ways=5, shots=1, queries=2)
    found = mltk.evaluate(FLAT, {}, tasks, episodes=45, seed=3, backend=NUMPY, batch=7)
    block = np.random.default_rng(np.random.SeedSequence(3, spawn_key=(1, 2)))
    last = tasks.sample(20, block, NUMPY)
    np.testing.assert_array_equal(found.classes[40:], last.classes[:5])
    np.testing.assert_array_equal(found.groups[40:], last.groups[:5])
    assert str(found.interval("groups")).endswith("(95 % interval over 3 groups)")


class Mixed:
    """Two ways or three, with classes."""

    def sample(self, n_tasks, rng, backend):
        rng = np.random.default_rng(rng)
        ways = int(rng.integers(2, 4))
        drawn = mltk.data.Blobs(ways, 1, 1).sample(n_tasks, rng, backend)
        arrays = (drawn.support_x, drawn.support_y, drawn.query_x, drawn.query_y)
        classes = rng.integers(0, 9, (n_tasks, ways))
        return mltk.Episode(*arrays, ways=ways, backend=backend, classes=classes)


def test_tasks_of_fewer_ways_have_no_class_in_their_last_places():
    found = mltk.evaluate(PLAIN, {}, Mixed(), episodes=200, backend=NUMPY)
    assert found.classes.shape == (200, 3)
    assert {-1, *range(9)} == set(found.classes.ravel())
    assert set(found.classes[:, 0]) == set(range(9))
    assert found.interval("classes").units == 9


@pytest.mark.parametrize(
    ("values", "classes", "why"),
    [
        ([0.5], [[0, 1]], "2 classes, all of them in one task"),
        ([0.5, 0.6, 0.7], [[0, 1], [1, 0], [0, 1]], "2 classes, of which one is in every task"),
        ([0.5, 0.6, 0.7], [[0, 1], [2, 0], [0, 3]], "4 classes, of which one is in every task"),
        ([0.5, 0.6, 0.7], [[3], [3], [3]], "1 class, which says nothing of others"),
    ],
)
def test_where_nothing_is_known_of_other_classes_the_interval_is_infinite_and_says_why(values, classes, why):
    values, classes = np.asarray(values), np.asarray(classes)
    found = Evaluation("accuracy", values, classes=classes, by_run=np.stack([values, values + 0.1]))
    alone = found.interval("classes")
    assert (alone.low, alone.high) == (-np.inf, np.inf)
    assert str(alone).endswith(f"[-inf, inf] (95 % interval over {why})")
    assert why.partition(", ")[2] in str(found.interval("seeds"))
    if values.size > 1:
        assert why in str(compare(found, Evaluation("accuracy", 0 * values, classes=classes), over="classes"))


def test_one_task_says_nothing_of_others():
    one = np.asarray([0.5])
    assert str(Evaluation("accuracy", one)).endswith(
        "(95 % interval over 1 task, which says nothing of others)"
    )
    seeds = Evaluation("accuracy", one, by_run=np.asarray([[0.4], [0.6]])).interval("seeds")
    assert str(seeds).endswith("over seeds, but of one task, which says nothing of others)")


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ("classes", "do not say which classes"),
        ("groups", "do not say which groups"),
        ("seeds", "one run was evaluated"),
        ("class", "did you mean 'classes'"),
    ],
)
def test_what_is_not_there_cannot_be_drawn_anew(over, said):
    with pytest.raises(SettingError, match=said):
        Evaluation("accuracy", np.asarray([0.5, 0.6])).interval(over)


@pytest.mark.parametrize("level", [0, 1, 95, "0.95", float("nan")])
def test_levels_are_between_0_and_1(level):
    with pytest.raises(SettingError, match=r"level is .*; expected a number between 0 and 1"):
        Evaluation("accuracy", np.asarray([0.5, 0.6])).interval(level=level)


def test_there_must_be_a_run():
    with pytest.raises(SettingError, match="meta_params is an empty list"):
        mltk.evaluate(PLAIN, [], mltk.data.Blobs(2, 1, 1), episodes=3, backend=NUMPY)


def test_turned_images_are_of_the_class_that_they_were():
    glyphs = mltk.data.Glyphs(2, 6, 6, image_size=8)
    tasks = glyphs.tasks(3, 1, 2, rotations=True)
    pixels = mltk.algorithms.Prototypical(mltk.models.Sequential([mltk.ops.Flatten()]))
    found = mltk.evaluate(pixels, {}, tasks, episodes=40, backend=NUMPY)
    table = mltk.MetaLearningEvaluator({"pixels": (pixels, {})}, tasks, backend=NUMPY).run(40)
    rng = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(1, 0)))
    drawn = tasks.sample(20, rng, NUMPY).classes
    assert drawn.max() >= 12
    for each in (found, table["pixels"]):
        np.testing.assert_array_equal(each.classes[:20], drawn % 12)
    assert found.interval("classes").units == 12


def test_values_that_are_all_alike_have_an_interval_of_no_width():
    assert (
        str(Evaluation("accuracy", np.full(30, 0.1 + 0.7)))
        == "accuracy 0.800 ± 0.000 (95 % interval over 30 tasks)"
    )
