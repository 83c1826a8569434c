"""Choosing a learner for each task: a gain where the best is known, and elsewhere no loss."""

import json
from dataclasses import replace

import numpy as np
import pytest
import selecting
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from mltk.errors import SettingError, ShapeError
from mltk.task_analysis import Measures
from mltk.toolkit import AlgorithmSelector, Evidence, gap, gather

sklearn = pytest.importorskip("sklearn", reason="selecting needs scikit-learn, the extra toolkit")
from sklearn.base import BaseEstimator, RegressorMixin  # noqa: E402


class Told(RegressorMixin, BaseEstimator):
    """Predicts nothing but the sign of the first measure."""

    def fit(self, x, y):
        self.fitted_ = True
        return self

    def predict(self, x):
        return np.sign(x[:, 0])


def evidence_of(
    halves, *, seconds=None, metric="accuracy", classes=None, groups=None, measuring=0.0, **known
):
    """Evidence of learners called a, b, c…"""
    learners = tuple("abcdefgh"[: halves.shape[1]])
    arrays = {name.replace("_", " "): np.asarray(values, float) for name, values in known.items()}
    return Evidence(
        learners,
        metric,
        halves.mean(axis=0),
        halves,
        Measures(arrays, dict.fromkeys(arrays, "support")),
        np.zeros(len(learners)) if seconds is None else np.asarray(seconds),
        classes,
        groups,
        measuring=measuring,
    )


def noise(seed, tasks=60, learners=3):
    """Learners that are equally good, on tasks of which it is known how hard they are."""
    rng = np.random.default_rng(seed)
    right = rng.uniform(0.5, 0.9, tasks)
    halves = rng.binomial(10, right, (2, learners, tasks)) / 10
    return evidence_of(halves, hard=right + 0.05 * rng.normal(size=tasks), other=rng.normal(size=tasks))


def clear(seed, tasks=300, *, better=0.2, spread=0.05, **more):
    """The first learner is better where the measure is below 0.2, the second above, the third nowhere."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, tasks)
    mean = np.stack([0.6 + 0 * x, 0.6 + better * np.sign(x - 0.2), 0.5 + 0 * x])
    return evidence_of(np.clip(mean + spread * rng.normal(size=(2, 3, tasks)), 0, 1), x=x, **more)


MODELS = ["forest", "boosting", "linear"]


@pytest.mark.parametrize("model", MODELS)
def test_where_the_best_is_known_it_is_chosen_and_the_gap_closed(model):
    selector = AlgorithmSelector(model=model).fit(clear(0))
    assert not selector.abstains
    fresh = clear(1)
    x = fresh.known["x"]
    chosen = selector.choose(fresh.known)
    if model == "linear":  # the line of least squares crosses zero elsewhere
        assert (chosen[x > 0.3] == "b").all()
    else:
        away = np.abs(x - 0.2) > 0.05
        assert np.array_equal(chosen[away], np.where(x > 0.2, "b", "a")[away])
    judged = selector.judge(fresh)
    assert judged.closed.low > (0.5 if model == "linear" else 0.9)
    assert judged.selected == pytest.approx(
        fresh.outcomes[[*map("abc".index, chosen)], np.arange(300)].mean()
    )
    assert selector.gap.closed.low < judged.closed.estimate < 1.1


@pytest.mark.parametrize(
    ("learners", "tasks"),
    [
        (selecting.on_distances_and_weights, selecting.blobs),
        (lambda: selecting.of_curves(300)[0], selecting.curves),
    ],
    ids=["blobs", "curves"],
)
def test_on_mixed_tasks_more_than_half_of_the_gap_is_closed_on_fresh_ones(learners, tasks):
    pairs = learners()
    evidence, fresh = (gather(pairs, tasks(), episodes=240, seed=seed) for seed in (0, 1))
    selector = AlgorithmSelector().fit(evidence)
    assert not selector.abstains
    found = selector.judge(fresh)
    assert found.closed.low > 0.5
    assert found.proven


def test_between_equals_it_abstains_as_often_as_promised():
    fits, chosen = 20, 0
    for seed in range(fits):
        selector = AlgorithmSelector(model="linear", seed=seed).fit(noise(seed))
        chosen += not selector.abstains
        other = noise(1000 + seed)
        told = repr(selector)
        assert (f"{selector.single_best} for every task, which gains 0" in told) == selector.abstains
        assert ("gain if it chose" in told) == selector.abstains
        if selector.abstains:
            assert (selector.choose(other.known) == selector.single_best).all()
            judged = selector.judge(other)
            assert judged.gain.estimate == judged.gain.low == judged.gain.high == 0.0
            assert judged.selected == judged.single_best
    assert chosen <= binom.ppf(0.999, fits, 0.025)


@pytest.mark.parametrize("differing", [4, 5, 8, 40])
def test_choices_without_any_gain_are_seldom_proven_however_few_tasks_differ(differing):
    rng, simulations = np.random.default_rng(differing), 600
    proven = 0
    for _ in range(simulations):
        halves = np.full((2, 2, 60), 0.7)
        halves[:, 1, :differing] += 0.1 * rng.choice([-1, 1], differing)
        chosen = np.where(np.arange(60) < differing, "b", "a")
        proven += gap(evidence_of(halves), chosen, single_best="a").proven
    assert proven <= binom.ppf(0.9999, simulations, 0.025)


@given(st.integers(0, 2**32), st.integers(2, 5), st.sampled_from(["accuracy", "mse"]))
@settings(max_examples=40, deadline=None)
def test_the_virtual_best_is_chosen_by_one_half_and_judged_on_the_other(seed, learners, metric):
    rng = np.random.default_rng(seed)
    halves = rng.integers(0, 6, (2, learners, 30)) / 5  # with many ties
    evidence = evidence_of(halves, metric=metric)
    found = gap(evidence, np.asarray(["b"] * 30))
    sign = 1 if metric == "accuracy" else -1
    means = sign * evidence.outcomes.mean(axis=1)
    best = int(np.argmax(means))
    total = 0.0
    for task in range(30):
        for half in (0, 1):
            scores = sign * halves[half, :, task]
            equals = [each for each in range(learners) if scores[each] == scores.max()]
            taken = max(equals, key=lambda each: (means[each], -each))
            total += halves[1 - half, taken, task] / 60
    assert found.virtual_best == pytest.approx(total)
    assert found.single_best == pytest.approx(sign * means[best])
    naive = (sign * evidence.outcomes).max(axis=0).mean()
    assert found.naive_virtual_best == pytest.approx(sign * naive)
    assert sign * found.naive_virtual_best >= sign * found.virtual_best - 1e-12
    x = sign * (evidence.outcomes[1] - evidence.outcomes[best])
    assert found.gain.estimate == pytest.approx(x.mean(), abs=1e-12)


def test_the_naive_virtual_best_is_too_good_and_the_split_one_is_not():
    rng = np.random.default_rng(0)
    halves = rng.binomial(10, 0.7, (2, 4, 20_000)) / 10
    found = gap(evidence_of(halves), np.full(20_000, "a"), single_best="a")
    assert found.naive_virtual_best > found.single_best + 0.05
    assert found.virtual_best == pytest.approx(0.7, abs=0.004)
    assert found.closed.half_width == np.inf
    assert "no gap" in str(found.closed)


def test_the_interval_of_the_closed_gap_holds_the_truth_as_often_as_it_says():
    rng, held, simulations = np.random.default_rng(0), 0, 400
    chances = np.outer(*(binom.pmf(np.arange(11), 10, p) for p in (0.5, 0.7)))  # of what both get right
    misled = np.tril(chances, -1).sum() + np.trace(chances) / 2  # where a half says the wrong one is better
    truth = (0.8 * 0.2 - 0.1) / (0.2 * (1 - misled) - 0.1)
    for _ in range(simulations):
        best = rng.integers(0, 2, 150)  # each is the best of half of the tasks, by 0.2
        mean = np.where(best == np.arange(2)[:, None], 0.7, 0.5)
        halves = rng.binomial(10, mean, (2, 2, 150)) / 10
        right = rng.random(150) < 0.8
        chosen = np.where(right, best, 1 - best)
        found = gap(evidence_of(halves), np.asarray(["a", "b"])[chosen], single_best="a").closed
        held += found.low <= truth <= found.high
    assert binom.ppf(0.0005, simulations, 0.95) <= held <= binom.ppf(0.9995, simulations, 0.95)


def test_intervals_are_over_classes_where_these_are_known():
    rng = np.random.default_rng(0)
    classes = rng.permuted(np.tile(np.arange(40), (300, 1)), axis=1)[:, :5]
    evidence = clear(0, classes=classes, groups=classes // 10)
    selector = AlgorithmSelector(model="linear").fit(evidence)
    assert selector.gap.gain.over == selector.gap.closed.over == "classes"
    for over in ("tasks", "groups"):
        assert AlgorithmSelector(model="linear", over=over).fit(evidence).gap.gain.over == over
    with pytest.raises(SettingError, match="groups"):
        AlgorithmSelector(model="linear", over="groups").fit(clear(0))


def test_costs_are_taken_off_and_learners_are_not_asked_for_measures():
    seconds, extra = [0.0, 0.01, 0.0], {"confidence_of_a": np.linspace(0, 1, 300)}
    evidence = clear(0, seconds=seconds, measuring=0.002, **extra)
    free = AlgorithmSelector(n_folds=2).fit(evidence)
    assert set(free.measures) == {"x", "confidence of a"}
    cheap = AlgorithmSelector(n_folds=2, cost=5.0).fit(evidence)
    assert cheap.measures == ("x",)
    assert not cheap.abstains
    chosen = cheap.choose(evidence.known)
    outcomes = evidence.outcomes - 5.0 * np.asarray(seconds)[:, None]
    expected = outcomes[[*map("abc".index, chosen)], np.arange(300)].mean() - 5.0 * 0.002
    assert cheap.judge(evidence).selected == pytest.approx(expected)
    dear = AlgorithmSelector(n_folds=2, cost=30.0).fit(evidence)  # the second gains 0.2 and costs 0.3
    assert dear.single_best == "a"
    assert dear.abstains
    assert dear.judge(evidence).selected == dear.judge(evidence).single_best  # nobody measures for it
    without = replace(
        evidence,
        known=Measures({"confidence of a": evidence.known["x"]}, {"confidence of a": "query inputs"}),
    )
    with pytest.raises(SettingError, match="no measure"):
        AlgorithmSelector(cost=1.0).fit(without)


def test_of_errors_the_smallest_is_chosen_whatever_their_scale():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 300)
    scale = np.exp(3 * rng.normal(size=300))  # a few tasks have most of the error
    a, b = scale * np.where(x > 0, 1.0, 4.0), scale * np.where(x > 0, 4.0, 1.0)
    halves = np.stack([a, b]) * rng.uniform(0.9, 1.1, (2, 2, 300))
    evidence = evidence_of(halves, metric="mse", x=x)
    selector = AlgorithmSelector(over="tasks").fit(evidence)
    away = np.abs(x) > 0.05
    best = np.where(x > 0, "a", "b")
    unguarded = replace(selector, gap=replace(selector.gap, p=0.0, gain=replace(selector.gap.gain, low=1.0)))
    assert np.array_equal(unguarded.choose(evidence.known)[away], best[away])
    assert selector.gap.selected < selector.gap.single_best
    assert selector.gap.gain.estimate > 0


def test_what_is_not_finite_is_no_hindrance_and_own_regressors_are_copied():
    evidence = clear(0)
    odd = np.full(300, np.inf)
    odd[::2] = np.nan
    known = Measures({**evidence.known, "odd": odd}, {**evidence.known.needs, "odd": "support"})
    own = Told()
    told = replace(evidence, known=Measures({"x": evidence.known["x"] - 0.2}, {"x": "support"}))
    for model in MODELS:
        assert not AlgorithmSelector(model=model, n_folds=2).fit(replace(evidence, known=known)).abstains
    AlgorithmSelector(model=own).fit(told)
    assert not hasattr(own, "fitted_")


def test_one_seed_gives_one_selector_and_measures_are_found_by_name():
    evidence = clear(0, tasks=100, y=np.arange(100.0))
    first, second, other = (AlgorithmSelector(seed=seed, n_folds=2).fit(evidence) for seed in (0, 0, 1))
    expected = first.advantages(evidence.known)
    assert np.array_equal(second.advantages(evidence.known), expected)
    assert not np.array_equal(other.advantages(evidence.known), expected)
    known = evidence.known
    turned = Measures({name: known[name] for name in ("y", "x")}, known.needs)
    assert np.array_equal(first.advantages(turned), expected)
    assert expected[first.learners.index(first.single_best)].tolist() == [0.0] * 100
    with pytest.raises(SettingError, match="lacks x"):
        first.choose(Measures({"y": known["y"]}, {"y": "support"}))


def test_choices_are_judged_on_tasks_of_other_classes_where_that_can_be():
    """What a class is known by helps for no other: a selector that remembers classes gains nothing."""
    rng = np.random.default_rng(0)
    character = rng.integers(0, 2, 60)  # which learner is better for tasks of a class: known by its number
    classes = rng.integers(0, 60, (400, 1))
    mean = np.where(character[classes[:, 0]] == np.arange(2)[:, None], 0.8, 0.6)
    halves = mean + 0.02 * rng.normal(size=(2, 2, 400))
    evidence = evidence_of(halves, number=classes[:, 0])
    apart = AlgorithmSelector(n_folds=3).fit(replace(evidence, classes=classes))
    together = AlgorithmSelector(n_folds=3).fit(evidence)
    by_group = AlgorithmSelector(n_folds=3, over="groups").fit(
        replace(evidence, classes=np.arange(400)[:, None], groups=classes)
    )
    assert apart.apart
    assert by_group.apart
    assert not together.apart
    assert not together.abstains  # tasks of the same classes were seen
    for selector in (apart, by_group):
        assert selector.abstains
        assert selector.gap.gain.estimate < 0.5 * together.gap.gain.estimate


def test_results_show_themselves_and_become_json():
    selector = AlgorithmSelector(model="linear").fit(clear(0))
    assert "chooses for each task" in repr(selector)
    assert "closed gap" in repr(selector)
    assert "abstains" in repr(AlgorithmSelector(model="linear").fit(noise(0)))
    told = json.loads(json.dumps(selector.to_dict(), allow_nan=False))
    assert told["single_best"] == selector.single_best
    assert told["gap"]["closed"]["estimate"] == selector.gap.closed.estimate


def test_bad_arguments_are_refused():
    evidence = clear(0)
    for wrong, words in [
        ({"cost": -1.0}, "cost"),
        ({"model": "tree"}, "forest, boosting, linear"),
        ({"model": 3}, "model"),
        ({"n_folds": 1}, "n_folds"),
        ({"over": "seeds"}, "over"),
    ]:
        with pytest.raises(SettingError, match=words):
            AlgorithmSelector(**wrong)
    for wrong, words in [
        ("evidence", "gather"),
        (noise(0, learners=1), "a alone"),
        (replace(evidence, known=Measures({}, {})), "no measure"),
        (evidence.take(slice(3)), "at least 5"),
    ]:
        with pytest.raises(SettingError, match=words):
            AlgorithmSelector().fit(wrong)
    selector = AlgorithmSelector(model="linear").fit(evidence)
    with pytest.raises(SettingError, match="a, b"):
        selector.judge(noise(0, learners=2))
    with pytest.raises(ShapeError, match="one name a task"):
        gap(evidence, np.asarray(["a"]))
    with pytest.raises(SettingError, match="'z' is no learner"):
        gap(evidence, np.full(300, "z"))
    with pytest.raises(SettingError, match="'z' is no learner"):
        gap(evidence, np.full(300, "a"), single_best="z")


def test_nothing_is_learned_from_measures_that_need_the_labels_of_queries():
    evidence = clear(0)
    told = replace(
        evidence,
        known=Measures(
            dict(evidence.known.arrays) | {"told": evidence.outcomes[0]},
            dict(evidence.known.needs) | {"told": "query labels"},
        ),
    )
    found, expected = (AlgorithmSelector(model="linear").fit(each) for each in (told, evidence))
    assert "told" not in found.measures
    np.testing.assert_array_equal(found.choose(told.known), expected.choose(evidence.known))
