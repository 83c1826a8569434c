"""Failure prediction: calibrated risks, what a fit must not see, and rules that keep their promise."""

import json

import numpy as np
import pytest
from scipy.stats import binom

import mltk
from mltk.errors import NotFiniteError, SettingError, ShapeError
from mltk.task_analysis import Measures
from mltk.toolkit import FailurePredictor
from mltk.toolkit.acceptance import acceptance, in_order, passed

sklearn = pytest.importorskip("sklearn", reason="failure prediction needs scikit-learn, the extra toolkit")


def measured(**arrays):
    return Measures(arrays, dict.fromkeys(arrays, "query inputs"))


def drawn(tasks, seed=0, *, slope=3.0):
    """Tasks whose probability of failure is a logistic function of one of three measures."""
    rng = np.random.default_rng(seed)
    first, second, third = rng.normal(size=(3, tasks))
    chance = 1 / (1 + np.exp(-(slope * first - 1)))
    failed = rng.uniform(size=tasks) < chance
    return measured(a=first, b=second, c=third), np.where(failed, 0.2, 0.9), chance


def fitted_on(tasks=600, **options):
    known, outcomes, _ = drawn(tasks)
    return FailurePredictor(0.5, folds=3, **options).fit(known, outcomes)


def forest():
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_estimators=30, min_samples_leaf=20, random_state=0)


@pytest.mark.parametrize(("model", "error"), [("logistic", 0.04), ("boosting", 0.1), (forest(), 0.1)])
def test_risks_are_the_probabilities_of_failure(model, error):
    known, _, chance = drawn(4000, seed=1)
    risk = fitted_on(model=model).risk(known)
    assert np.abs(risk - chance).mean() < error
    for low in (0, 0.25, 0.5, 0.75):  # calibrated in each part of the risks
        part = (risk >= low) & (risk < low + 0.25)
        assert abs(risk[part].mean() - chance[part].mean()) < 2 * error


def test_what_is_expected_are_the_outcomes():
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(2, 1000))
    accuracies = np.clip(0.6 + 0.1 * np.arcsinh(x) - 0.05 * np.arcsinh(z), 0, 1)
    for model, error in (("logistic", 0.005), ("boosting", 0.03)):
        fitted = FailurePredictor(0.5, model=model).fit(measured(x=x[:500], z=z[:500]), accuracies[:500])
        found = fitted.expected(measured(z=z[500:], x=x[500:]))
        assert np.abs(found - accuracies[500:]).mean() < error
    far = fitted_on().expected(measured(a=np.asarray([-1e9, 1e9]), b=np.zeros(2), c=np.zeros(2)))
    assert far.tolist() == [1.0, 0.0]


def test_errors_fail_where_they_are_large():
    known, outcomes, _ = drawn(600)
    by_error = FailurePredictor(0.5, "mse", folds=3).fit(known, 1 - outcomes)
    np.testing.assert_allclose(by_error.risk(known), fitted_on().risk(known), rtol=1e-6)
    assert by_error.failures == (outcomes < 0.5).sum()


def test_measures_that_say_nothing_change_nothing():
    known, outcomes, _ = drawn(300)
    rng = np.random.default_rng(5)
    more = {
        "constant": np.full(300, 7.0),
        "unknown": np.full(300, np.nan),
        "infinite": np.full(300, np.inf),
        "of labels": rng.normal(size=300),
    }
    needs = dict.fromkeys((*known, *more), "support") | {"of labels": "query labels"}
    fitted = FailurePredictor(0.5).fit(Measures({**known.arrays, **more}, needs), outcomes)
    expected = FailurePredictor(0.5).fit(known, outcomes)
    assert "of labels" not in fitted.names
    new, _, _ = drawn(50, seed=2)
    more = {name: values[:50] for name, values in more.items()}
    found = Measures({**new.arrays, **more}, needs)
    np.testing.assert_allclose(fitted.risk(found), expected.risk(new), rtol=1e-6)
    np.testing.assert_allclose(fitted.expected(found), expected.expected(new), rtol=1e-6)


@pytest.mark.parametrize("model", ["logistic", "boosting"])
def test_missing_and_huge_values_do_no_harm(model):
    known, outcomes, chance = drawn(1500)
    damaged = known["a"].copy()
    damaged[::10] = np.nan
    rough = np.where(np.arange(1500) % 50 == 0, 1e300, known["b"])
    fitted = FailurePredictor(0.5, model=model).fit(measured(a=damaged, b=rough, c=known["c"]), outcomes)
    risk = fitted.risk(measured(a=known["a"], b=rough, c=known["c"]))
    assert np.abs(risk - chance).mean() < 0.1
    unknown = measured(**dict.fromkeys("abc", np.full(2, np.nan)))
    assert ((fitted.risk(unknown) > 0.02) & (fitted.risk(unknown) < 0.98)).all()


@pytest.mark.parametrize(("outcome", "failures"), [(0.9, 0), (0.2, 40)])
def test_where_all_tasks_did_the_same_all_have_one_risk(outcome, failures):
    known, _, _ = drawn(40)
    fitted = FailurePredictor(0.5).fit(known, np.full(40, outcome))
    assert fitted.failures == failures
    np.testing.assert_allclose(fitted.risk(known), (failures + 1) / 42)
    np.testing.assert_allclose(fitted.expected(known), outcome)
    assert "all have the same risk" in repr(fitted)
    assert np.isnan(fitted.held_out.auroc.estimate)
    json.dumps(fitted.to_dict(), allow_nan=False)


def test_a_single_failure_is_no_error():
    known, outcomes, _ = drawn(40)
    outcomes = np.where(np.arange(40) == 3, 0.1, 0.9)
    risk = FailurePredictor(0.5).fit(known, outcomes).risk(known)
    assert ((risk > 0) & (risk < 0.5)).all()


def test_where_nothing_is_to_be_seen_the_risk_is_the_rate():
    """Boosting finds something in noise, and calibration by what was held out takes it away."""
    rng = np.random.default_rng(0)
    known, outcomes = measured(a=rng.normal(size=800), b=rng.normal(size=800)), rng.uniform(size=800)
    for model in ("logistic", "boosting"):
        risk = FailurePredictor(0.3, model=model).fit(known, outcomes).risk(known)
        assert abs(risk.mean() - 0.3) < 0.03
        assert risk.std() < 0.06


def test_what_is_known_of_classes_is_not_learned_by_heart():
    """Measures that tell the class, whose tasks all fail or none, foresee nothing of other classes."""
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(60), 10)[:, None]
    known = measured(a=rng.normal(size=60)[classes[:, 0]], b=rng.normal(size=60)[classes[:, 0]])
    outcomes = np.where(rng.uniform(size=60) < 0.5, 0.2, 0.9)[classes[:, 0]]
    predictor = FailurePredictor(0.5, model="boosting")
    by_heart = predictor.fit(known, outcomes)
    of_others = predictor.fit(known, outcomes, classes=classes)
    assert by_heart.held_out.auroc.estimate > 0.9
    assert of_others.held_out.auroc.estimate < 0.65
    assert of_others.apart
    assert not by_heart.apart
    assert np.ptp(of_others.risk(known)) < 0.5 < np.ptp(by_heart.risk(known))
    by_group = predictor.fit(known, outcomes, classes=np.arange(600)[:, None], groups=classes)
    assert by_group.held_out.auroc.estimate < 0.65
    assert by_group.held_out.auroc.over == "classes"


def test_a_fit_can_be_repeated_and_depends_on_the_seed():
    known, outcomes, _ = drawn(200)
    first, again, other = (
        FailurePredictor(0.5, seed=seed).fit(known, outcomes).risk(known) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


# Acceptance


def test_a_row_of_tests_ends_with_the_first_that_does_not_pass():
    rng = np.random.default_rng(0)
    accepted = np.cumsum(rng.integers(0, 40, size=(200, 6)), axis=1)
    failures = rng.binomial(accepted, 0.05)
    for n, k, found in zip(accepted, failures, passed(accepted, failures, 0.1, 0.2), strict=True):
        p = [sum(binom.pmf(range(fails + 1), tasks, 0.1)) for tasks, fails in zip(n, k, strict=True)]
        end = next((place for place, each in enumerate(p) if each > 0.2), 6)
        assert found.tolist() == [place < end for place in range(6)]


@pytest.mark.parametrize("delta", [0.05, 0.2])
@pytest.mark.parametrize("foreseen", ["rightly", "wrongly"])
@pytest.mark.parametrize("shape", ["just too risky", "from safe to risky", "up and down"])
def test_the_rule_keeps_its_promise(shape, foreseen, delta):
    """In 20,000 calibrations the risk among the accepted is above alpha in at most a part delta of them.

    Whatever the predictor foresees: that decides in which order thresholds are tested, and so how often
    anything is accepted.
    """
    rng, alpha, tasks, simulations, steps = np.random.default_rng(0), 0.1, 300, 20_000, 20
    chance = {
        "just too risky": np.full(steps, alpha + 1e-9),
        "from safe to risky": np.linspace(0.01, 0.3, steps),
        "up and down": 0.1 + 0.08 * np.sin(np.arange(steps) - 1.0),
    }[shape]
    levels = np.arange(1, steps + 1) / steps  # each task's risk is one of these, and fails by its chance
    true = np.cumsum(chance) / np.arange(1, steps + 1)
    ease = (alpha - true) * np.sqrt(levels)
    order = np.argsort(-ease if foreseen == "rightly" else ease, kind="stable")
    counts = rng.multinomial(tasks, np.full(steps, 1 / steps), size=simulations)
    failed = rng.binomial(counts, chance)
    safe = passed(counts.cumsum(axis=1)[:, order], failed.cumsum(axis=1)[:, order], alpha, delta)
    best = np.where(safe, levels[order], 0).argmax(axis=1)
    broken = safe.any(axis=1) & (true[order][best] > alpha)
    assert broken.mean() <= delta + 3 * np.sqrt(delta / simulations)
    if shape == "just too risky" and foreseen == "wrongly":
        assert broken.mean() > delta / 4  # nor does it give away much
    if shape == "from safe to risky" and foreseen == "rightly":
        assert safe.any(axis=1).mean() > 0.35


class Stub:
    def risk(self, known):
        return known["risk"]


def rule_of(risks, failed, *, alpha, foreseen):
    known = measured(risk=np.asarray(risks))
    return acceptance(Stub(), known, np.asarray(failed), foreseen=foreseen, alpha=alpha, delta=0.1)


def test_thresholds_are_tested_where_most_is_to_be_expected_first():
    foreseen = np.linspace(0, 1, 401) ** 3
    thresholds = in_order(foreseen, 0.1)
    assert thresholds.max() == 1.0
    assert thresholds.size == 40
    worth = [(0.1 - foreseen[foreseen <= t].mean()) * np.mean(foreseen <= t) ** 0.5 for t in thresholds]
    assert worth == sorted(worth, reverse=True)
    assert in_order(np.full(50, 0.3), 0.1).tolist() == [0.3, 1.0]


def test_the_rule_is_that_of_the_tests_and_accepts_by_its_threshold():
    rng = np.random.default_rng(0)
    risks, foreseen = rng.uniform(size=(2, 800))
    failed = rng.uniform(size=800) < risks
    rule = rule_of(risks, failed, alpha=0.2, foreseen=foreseen)
    assert rule.accepted == (risks <= rule.threshold).sum() > 150
    assert rule.failures == failed[risks <= rule.threshold].sum()
    assert binom.cdf(rule.failures, rule.accepted, 0.2) <= 0.1
    known = measured(risk=np.asarray([0.0, rule.threshold, rule.threshold + 1e-9]))
    assert rule.accept(known).tolist() == [True, True, False]
    assert "of which" in repr(rule)
    none = rule_of(risks, np.ones(800, bool), alpha=0.2, foreseen=foreseen)
    assert not none.accept(known).any()
    assert "none" in repr(none)
    assert none.to_dict()["threshold"] is None


def test_what_failed_does_not_choose_the_thresholds():
    """Or the promise would not hold: those that are tested are told by other tasks."""
    rng = np.random.default_rng(0)
    foreseen = np.repeat([0.1, 0.6], 50)
    risks = rng.uniform(size=500)
    assert rule_of(risks, risks > 0.5, alpha=0.2, foreseen=foreseen).threshold in in_order(foreseen, 0.2)


def test_too_few_tasks_prove_nothing():
    """Of 28 tasks none of which fails, 0.95²⁸ = 0.24 is no proof that fewer than 5 % do."""
    for tasks, accepts in ((28, False), (60, True)):
        rule = rule_of(np.zeros(tasks), np.zeros(tasks, bool), alpha=0.05, foreseen=np.zeros(9))
        assert rule.accept(measured(risk=np.zeros(1))).tolist() == [accepts]


def test_of_the_tasks_that_a_fitted_predictor_lets_through_few_fail():
    fitted = fitted_on(1000)
    known, _, chance = drawn(4000, seed=9)
    kept, broken = [], []
    for seed in range(40):
        calibration, outcomes, _ = drawn(400, seed=100 + seed)
        accepted = fitted.control(calibration, outcomes, alpha=0.15, delta=0.2).accept(known)
        kept.append(accepted.mean())
        broken.append(accepted.any() and chance[accepted].mean() > 0.15)
    assert np.mean(broken) <= 0.2
    assert 0.3 < np.median(kept) < 0.7


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": np.nan}, "threshold is nan"),
        ({"metric": "return"}, "metric is 'return'"),
        ({"model": "forest"}, "model is 'forest'"),
        ({"model": object()}, r"model is .*predict_proba"),
        ({"folds": 1}, "folds is 1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_are_refused(options, message):
    with pytest.raises(SettingError, match=message):
        FailurePredictor(**{"threshold": 0.5} | options)


def test_arguments_are_refused():
    known, outcomes, _ = drawn(40)
    fit = FailurePredictor(0.5).fit
    fitted = fit(known, outcomes)
    for error, message, call in (
        (SettingError, "known is", lambda: fit(known.arrays, outcomes)),
        (
            SettingError,
            "no measures",
            lambda: fit(Measures({"h": outcomes}, {"h": "query labels"}), outcomes),
        ),
        (ShapeError, "outcomes has shape", lambda: fit(known, outcomes[:30])),
        (NotFiniteError, "outcomes holds", lambda: fit(known, np.full(40, np.nan))),
        (ShapeError, "known is of 3 tasks", lambda: fit(known.take(slice(3)), outcomes[:3])),
        (ShapeError, "classes has shape", lambda: fit(known, outcomes, classes=np.zeros(40, int))),
        (ShapeError, "groups has shape", lambda: fit(known, outcomes, groups=np.zeros((30, 2), int))),
        (SettingError, "known lacks 'c'", lambda: fitted.risk(measured(a=outcomes, b=outcomes))),
        (SettingError, "beside is 'd'", lambda: fitted.judge(known, outcomes, beside="d")),
        (SettingError, "alpha is 0", lambda: fitted.control(known, outcomes, alpha=0)),
        (SettingError, "delta is 1", lambda: fitted.control(known, outcomes, alpha=0.1, delta=1)),
    ):
        with pytest.raises(error, match=message):
            call()


def test_it_goes_with_what_is_gathered_of_learners():
    """From evidence of a learner on tasks of unseen classes to a risk of new tasks without labels."""
    glyphs = mltk.data.Glyphs(alphabets=6, characters=6, drawings=8, image_size=8)
    tasks, backend = glyphs.tasks(ways=3, shots=1, queries=3), mltk.backend("numpy")
    pixels = {"pixels": (mltk.algorithms.Prototypical(mltk.models.Sequential([mltk.ops.Flatten()])), {})}
    evidence = mltk.toolkit.gather(pixels, tasks, episodes=120, backend=backend)
    fitted = FailurePredictor(0.7).fit(
        evidence.known, evidence.outcomes[0], classes=evidence.classes, groups=evidence.groups
    )
    new = tasks.sample(5, rng=1, backend=backend)
    risk = fitted.risk(mltk.toolkit.known(pixels, (new.support_x, new.support_y, new.query_x)))
    assert ((risk >= 0) & (risk <= 1)).all()
    judged = fitted.judge(
        evidence.known,
        evidence.outcomes[0],
        classes=evidence.classes,
        beside="confidence of pixels",
    )
    assert judged.gain.over == "classes"
    assert judged.gain.estimate > 0
    assert "confidence of pixels" in repr(judged)
