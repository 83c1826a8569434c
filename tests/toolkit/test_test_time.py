"""More computing: pass 0 is the learner's own, further ones are averaged, and no query hears of another."""

import numpy as np
import pytest
from assertions import agree, same
from hypothesis import given, settings
from hypothesis import strategies as st
from nearest_learner import Nearest, arrays, noisy, sorted_by_label
from routes import NUMPY, ROUTES
from scipy.special import log_softmax, softmax

import mltk
from mltk.data.images.jitter import Jitter
from mltk.errors import SettingError, ShapeError
from mltk.toolkit import TestTimeScaler
from mltk.toolkit.views import alike, resampled

BLOBS = mltk.data.Blobs(ways=4, shots=3, queries=2, features=3, separation=2)
PIXELS = mltk.algorithms.Prototypical(mltk.models.Sequential([mltk.ops.Flatten()]), temperature=2.0)
VECTORS = mltk.algorithms.Prototypical(mltk.models.Sequential([]))


SINE = mltk.algorithms.MAML(mltk.models.mlp([1, 6, 1]), "mse", inner_steps=2)


@pytest.mark.parametrize("backend", ROUTES, ids=lambda be: f"{be.name}-{be.engine.name}")
@pytest.mark.parametrize("kind", ["classes", "values"])
def test_one_pass_is_the_learners_own_to_the_last_bit(backend, kind):
    learner = mltk.algorithms.RidgeRegression(mltk.models.mlp([3, 5])) if kind == "classes" else SINE
    tasks = BLOBS if kind == "classes" else mltk.data.Sinusoid(4, 3)
    episode = tasks.sample(3, 0, backend)
    params = learner.init(backend, 0)
    expected = backend.to_numpy(learner.predict(learner.adapt(params, *arrays(episode)[:2]), episode.query_x))
    scaler = TestTimeScaler(learner, views=noisy, members=(learner.init(backend, 1),))
    same(scaler.predict(params, *arrays(episode), compute=1).outputs, expected)
    same(scaler.predict(params, *arrays(episode), compute=9, seconds=0).outputs, expected)
    one = scaler.at(1)
    found = one.predict(one.adapt(params, *arrays(episode)[:2]), episode.query_x)
    assert backend.owns(found)
    same(backend.to_numpy(found), expected)
    if kind == "classes":
        many = scaler.at(5)
        log = many.predict(many.adapt(params, *arrays(episode)[:2]), episode.query_x)
        assert backend.owns(log)
        answer = scaler.predict(params, *arrays(episode), compute=5)
        agree(softmax(backend.to_numpy(log), axis=2), answer.probabilities)
        assert np.abs(answer.probabilities - softmax(expected, axis=2)).max() > 1e-3


@pytest.mark.parametrize("mean", ["probabilities", "log-probabilities"])
def test_the_answer_is_the_mean_over_the_passes_that_the_learner_was_shown(mean):
    x, y, query = sorted_by_label(BLOBS.sample(3, 0, NUMPY))
    seen = Nearest()
    answer = TestTimeScaler(seen, views=noisy, mean=mean, members=({"sure": 0.2},)).predict(
        {"sure": 1.0}, x, y, query, compute=5
    )
    own = Nearest()
    passes = [
        own.predict(own.adapt({"sure": sure}, a, y), b)
        for a, b, sure in zip(seen.support, seen.query, [1.0, 0.2, 1.0, 0.2, 1.0], strict=True)
    ]
    if mean == "probabilities":
        expected = softmax(np.stack(passes), axis=-1).mean(axis=0)
    else:
        expected = softmax(log_softmax(np.stack(passes), axis=-1).mean(axis=0), axis=-1)
    agree(answer.probabilities, expected)
    agree(np.exp(answer.outputs), expected)
    assert (answer.labels == expected.argmax(axis=-1)).all()
    parts = mltk.evaluation.uncertainty(softmax(np.stack(passes), axis=-1))
    agree(answer.spread, parts.epistemic)
    # All members see the plain examples first, then all of them the same view.
    for shown in (seen.support, seen.query):
        assert (shown[0] == shown[1]).all()
        assert (shown[2] == shown[3]).all()
        assert not (shown[0] == shown[2]).any()
        assert not (shown[2] == shown[4]).any()


def test_members_may_be_other_learners_and_passes_without_variation_end_with_them():
    episode = BLOBS.sample(3, 0, NUMPY)
    ridge = mltk.algorithms.RidgeRegression(mltk.models.mlp([3, 5]))
    params = ridge.init(NUMPY, 0)
    scaler = TestTimeScaler(ridge, members=((VECTORS, {}), ridge.init(NUMPY, 1)))
    answer = scaler.predict(params, *arrays(episode), compute=32)
    pairs = [(ridge, params), (VECTORS, {}), (ridge, ridge.init(NUMPY, 1))]
    each = [
        softmax(learner.predict(learner.adapt(mine, *arrays(episode)[:2]), episode.query_x), axis=-1)
        for learner, mine in pairs
    ]
    agree(answer.probabilities, np.mean(each, axis=0))
    assert answer.passes.tolist() == [3, 3, 3]
    assert len(scaler.at(32).adapt(params, *arrays(episode)[:2]).of) == 3
    alone = TestTimeScaler(ridge).predict(params, *arrays(episode), compute=8)
    assert alone.passes.tolist() == [1, 1, 1]
    assert not alone.spread.any()


def test_values_are_averaged_and_spread_by_their_deviation():
    episode = mltk.data.Sinusoid(6, 4).sample(2, 0, NUMPY)
    params, other = SINE.init(NUMPY, 0), SINE.init(NUMPY, 1)
    answer = TestTimeScaler(SINE, members=(other,)).predict(params, *arrays(episode), compute=2)
    both = [SINE.predict(SINE.adapt(each, *arrays(episode)[:2]), episode.query_x) for each in (params, other)]
    agree(answer.outputs, (both[0] + both[1]) / 2)
    agree(answer.spread, np.abs(both[0] - both[1]) / 2)
    assert answer.probabilities is None
    with pytest.raises(SettingError, match="regression"):
        _ = answer.labels
    assert "values for 4 queries of 2 tasks" in str(answer)


def test_members_that_contradict_each_other_are_a_bit_of_information():
    class Sure(Nearest):
        def predict(self, state, query_x):
            logits = np.zeros((*query_x.shape[:2], 2))
            logits[..., state[2]["label"]] = 800.0
            return logits

    x = np.zeros((1, 2, 3))
    scaler = TestTimeScaler(Sure(), members=({"label": 1},))
    answer = scaler.predict({"label": 0}, x, np.asarray([[0, 1]]), x)
    agree(answer.spread, np.full((1, 2), np.log(2)))
    agree(answer.probabilities, np.full((1, 2, 2), 0.5))


# No query hears of another.


@pytest.mark.parametrize("views", [Jitter(), lambda x, rng: x + rng.normal(0, 0.2, x.shape).astype(x.dtype)])
@pytest.mark.parametrize("confidence", [None, 0.9])
def test_an_answer_is_the_same_alone_and_in_company(views, confidence):
    episode = mltk.data.Glyphs(3, 6, 5, image_size=10).tasks(3, 1, 4).sample(4, 0, NUMPY)
    x, y, query = arrays(episode)
    scaler = TestTimeScaler(PIXELS, views=views, confidence=confidence)
    together = scaler.predict({}, x, y, query, compute=9)
    alone = scaler.predict({}, x[2:3], y[2:3], query[2:3, 5:6], compute=9)
    agree(alone.probabilities[0, 0], together.probabilities[2, 5], rtol=1e-6)
    assert alone.settled[0, 0] == together.settled[2, 5]
    assert alone.passes[0] <= together.passes[2]
    assert not mltk.evaluation.is_transductive(scaler.at(4), {}, x, y, query, backend=NUMPY)


def test_what_is_transductive_stays_so():
    norm = mltk.ops.BatchNorm(5, spatial_axes=0, statistics="batch")
    model = mltk.models.Sequential([mltk.ops.Linear(3, 5), norm])
    learner = mltk.algorithms.Prototypical(model)
    scaler, params = TestTimeScaler(learner, views=noisy).at(3), learner.init(NUMPY, 0)
    assert mltk.evaluation.is_transductive(scaler, params, *arrays(BLOBS.sample(2, 0, NUMPY)), backend=NUMPY)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.integers(1, 5))
def test_all_examples_are_seen_in_one_view(seed, count):
    images = np.random.default_rng(1).random((count, 1, 7, 6)).astype(np.float32)
    jitter = Jitter(rotation=20)
    each = [jitter(image[None], np.random.default_rng(seed)) for image in images]
    agree(alike(jitter, images, np.random.default_rng(seed)), np.concatenate(each), rtol=1e-6)
    agree(alike(lambda x, rng: jitter(x, rng), images, np.random.default_rng(seed)), np.concatenate(each))


def test_views_must_keep_the_shape():
    x = np.zeros((2, 3))
    with pytest.raises(ShapeError, match=r"\(1, 2\); expected \(1, 3\)"):
        alike(lambda rows, rng: rows[:, :2], x, np.random.default_rng(0))


# Support sets drawn anew.


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 999))
def test_a_class_keeps_its_count_and_rows_their_labels(ways, shots, seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, shots + 1, ways)
    labels = np.stack([rng.permutation(np.repeat(np.arange(ways), counts)) for _ in range(3)])
    x = labels[..., None] * 100 + np.arange(labels.shape[1])[:, None]
    rows, y = resampled(x, labels, rng)
    assert (rows // 100 == y[..., None]).all()
    assert (np.sort(y, axis=1) == np.sort(labels, axis=1)).all()
    assert all(set(rows[task, :, 0]) <= set(x[task, :, 0]) for task in range(3))


def test_each_example_is_drawn_as_often_as_the_others():
    labels, rng = np.asarray([[0, 1, 0, 1, 1]]), np.random.default_rng(0)
    x = np.arange(5.0)[None, :, None]
    drawn = np.concatenate([resampled(x, labels, rng)[0].ravel() for _ in range(2000)])
    found = np.bincount(drawn.astype(int), minlength=5) / 2000
    assert np.abs(found - 1).max() < 0.1
    values = np.concatenate([resampled(x, x, rng)[1].ravel() for _ in range(2000)])
    assert np.abs(np.bincount(values.astype(int), minlength=5) / 2000 - 1).max() < 0.1


def test_refits_adapt_anew_and_repeats_only_repeat():
    x, y, query = sorted_by_label(BLOBS.sample(3, 0, NUMPY))
    seen = Nearest()
    TestTimeScaler(seen, refits="resampled").predict({}, x, y, query, compute=4)
    assert all((shown == query).all() for shown in seen.query)
    assert len({shown.tobytes() for shown in seen.support}) == 4
    again = Nearest()
    TestTimeScaler(again, refits="again").predict({}, x, y, query, compute=4)
    assert len(again.support) == 4
    assert all((shown == x).all() for shown in again.support)


# More inner steps.


def test_steps_make_one_adaptation_longer():
    episode = mltk.data.Sinusoid(6, 4).sample(2, 0, NUMPY)
    params = SINE.init(NUMPY, 0)
    answer = TestTimeScaler(SINE, steps=True).predict(params, *arrays(episode), compute=4)
    longer = mltk.algorithms.MAML(SINE.model, "mse", inner_steps=8)
    same(answer.outputs, longer.predict(longer.adapt(params, *arrays(episode)[:2]), episode.query_x))
    assert answer.passes.tolist() == [4, 4]


# Refusals, and what training sees.


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"views": 3}, "views is 3"),
        ({"views": Jitter}, "views is"),
        ({"members": {}}, "members is dict"),
        ({"members": (3,)}, "a member of members is int"),
        ({"refits": "all"}, "refits is 'all'"),
        ({"mean": "logits"}, "mean is 'logits'"),
        ({"confidence": 1}, "confidence is 1"),
        ({"confidence": 0.4}, "confidence is 0.4"),
        ({"steps": True, "refits": "again"}, "steps is True"),
        ({"steps": True}, "Prototypical has no inner_steps"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting, message):
    with pytest.raises(SettingError, match=message):
        TestTimeScaler(PIXELS, **setting)


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ({"compute": 0}, "compute is 0"),
        ({"compute": np.asarray([1, 2])}, "compute is"),
        ({"compute": np.asarray([0, 2, 1])}, "compute is"),
        ({"seconds": -1}, "seconds is -1"),
    ],
)
def test_budgets_that_make_no_sense_are_refused(budget, message):
    with pytest.raises(SettingError, match=message):
        TestTimeScaler(VECTORS).predict({}, *arrays(BLOBS.sample(3, 0, NUMPY)), **budget)
    with pytest.raises(SettingError, match=r"compute is 1\.5"):
        TestTimeScaler(PIXELS).at(1.5)


def test_what_goes_with_passes_is_refused_where_there_are_none():
    episode = mltk.data.Sinusoid(4, 3).sample(2, 0, NUMPY)
    params = SINE.init(NUMPY, 0)
    with pytest.raises(SettingError, match="one pass"):
        TestTimeScaler(SINE, steps=True).predict(params, *arrays(episode), seconds=1)
    with pytest.raises(SettingError, match="compute is array"):
        TestTimeScaler(SINE, steps=True).predict(params, *arrays(episode), compute=np.asarray([1, 2]))
    with pytest.raises(SettingError, match="compute is <function"):
        TestTimeScaler(SINE, steps=True).predict(params, *arrays(episode), compute=lambda first: first)
    with pytest.raises(SettingError, match="regression, which has no labels"):
        TestTimeScaler(SINE, views=noisy, confidence=0.9).predict(params, *arrays(episode))


def test_training_sees_the_learner_alone():
    learner = mltk.algorithms.Prototypical(mltk.models.mlp([3, 4]))
    scaled = TestTimeScaler(learner, views=noisy).at(8)
    episode = BLOBS.sample(3, 0, NUMPY)
    same(scaled.init(NUMPY, 3), learner.init(NUMPY, 3))
    params = learner.init(NUMPY, 3)
    for found, expected in zip(
        scaled.value_and_grad(params, episode), learner.value_and_grad(params, episode), strict=True
    ):
        same(found, expected)


def test_answers_become_plain_values():
    answer = TestTimeScaler(VECTORS, views=noisy).predict({}, *arrays(BLOBS.sample(1, 0, NUMPY)), compute=2)
    told = answer.to_dict()
    assert told["passes"] == [2]
    assert np.asarray(told["probabilities"]).shape == (1, 8, 4)
    assert "labels of 4 ways for 8 queries of 1 task" in str(answer)
