"""What is known of tasks before the labels of their queries are, and how well learners then answer."""

import json
from dataclasses import replace

import numpy as np
import pytest
from routes import BACKENDS, NUMPY, backend_of

import mltk
from mltk.errors import NotFiniteError, SettingError, ShapeError
from mltk.task_analysis import Measures, measures, regression_measures
from mltk.toolkit import Evidence, gather, known

TASKS = mltk.data.Blobs(ways=3, shots=2, queries=5, separation=3)
MODEL = mltk.models.mlp([3, 6, 4], activation="tanh")
WAVES = mltk.data.Sinusoid(shots=5, queries=7)


def pairs(backend=NUMPY, **learners):
    return {name: (each, each.init(backend, 1)) for name, each in learners.items()}


def classifiers(backend=NUMPY):
    return pairs(
        backend,
        maml=mltk.algorithms.MAML(
            mltk.models.mlp([3, 8, 4]), "cross_entropy", inner_steps=2
        ),  # an output over
        ridge=mltk.RidgeRegression(MODEL),
        matching=mltk.algorithms.Matching(MODEL),
    )


def regressors(backend=NUMPY):
    return pairs(
        backend,
        maml=mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse"),
        ridge=mltk.RidgeRegression(mltk.models.mlp([1, 6, 4])),
    )


class Relabelled:
    """The same tasks with other targets of their queries."""

    def __init__(self, tasks, relabel):
        self.tasks, self.relabel = tasks, relabel

    def sample(self, n_tasks, rng, backend):
        episode = self.tasks.sample(n_tasks, rng, backend)
        return replace(episode, query_y=self.relabel(episode.query_y))


@pytest.mark.parametrize(("source", "learners"), [(TASKS, classifiers), (WAVES, regressors)])
def test_outcomes_are_those_of_evaluate_and_do_not_depend_on_batches(source, learners):
    found = gather(learners(), source, episodes=50, seed=3)
    for name, (learner, params) in learners().items():
        expected = mltk.evaluate(learner, params, source, episodes=50, seed=3)
        assert np.array_equal(found.evaluation(name).values, expected.values)
        assert found.metric == expected.metric
    whole = gather(learners(), source, episodes=50, seed=3, batch=60)
    fewer = gather(learners(), source, episodes=30, seed=3, batch=7)
    for other, tasks in ((whole, 50), (fewer, 30)):
        np.testing.assert_allclose(other.halves, found.halves[..., :tasks], rtol=1e-12)
        for name, values in found.known.items():
            np.testing.assert_allclose(other.known[name], values[:tasks], rtol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    ("source", "learners", "relabel"),
    [
        (TASKS, classifiers, lambda y: np.random.default_rng(0).permuted(y, axis=1)),
        (TASKS, classifiers, np.zeros_like),
        (WAVES, regressors, lambda y: 1e6 * y[:, ::-1] + 7),
    ],
)
def test_nothing_that_is_known_depends_on_query_labels(source, learners, relabel):
    found = gather(learners(), source, episodes=40)
    other = gather(learners(), Relabelled(source, relabel), episodes=40)
    assert not np.array_equal(found.outcomes, other.outcomes)
    assert found.known.needs == other.known.needs
    assert set(found.known.needs.values()) <= {"support", "query inputs"}
    for name, values in found.known.items():
        assert np.array_equal(values, other.known[name]), name


@pytest.mark.parametrize(("source", "learners"), [(TASKS, classifiers), (WAVES, regressors)])
def test_the_same_is_known_of_new_tasks_one_by_one_and_without_labels(source, learners):
    episode = source.sample(4, 5, NUMPY)
    expected = known(learners(), episode)
    found = gather(learners(), source, episodes=20)
    assert set(found.known) == set(expected)
    arrays = episode.support_x, episode.support_y, episode.query_x
    without = known(learners(), arrays)
    alone = [known(learners(), tuple(array[task : task + 1] for array in arrays)) for task in range(4)]
    assert without.needs == expected.needs == alone[0].needs
    for name, values in expected.items():
        assert np.array_equal(without[name], values)
        together = np.concatenate([each[name] for each in alone])
        np.testing.assert_allclose(together, values, rtol=1e-9, atol=1e-12, err_msg=name)


def test_what_is_known_of_classes_is_what_measures_and_confidences_say():
    learners = classifiers()
    episode = TASKS.sample(4, 5, NUMPY)
    found = known(learners, episode)
    params = learners["ridge"][1]
    of_tasks = measures(episode, (MODEL, params), gradients=False).without_query_labels()
    for name, values in of_tasks.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-12)
    for name, (learner, params) in learners.items():
        logits = learner.predict(learner.adapt(params, episode.support_x, episode.support_y), episode.query_x)
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True)).astype(float)
        confidence = (odds.max(axis=-1) / odds.sum(axis=-1)).mean(axis=1)
        np.testing.assert_allclose(found[f"confidence of {name}"], confidence, rtol=1e-6)
    inputs = known({"maml": learners["maml"]}, episode)
    np.testing.assert_allclose(inputs["logme"], measures(episode)["logme"])
    chosen = known(learners, episode, features=lambda x: x[..., :2])
    np.testing.assert_allclose(chosen["logme"], measures(episode, lambda x: x[..., :2])["logme"])


@pytest.mark.parametrize("queries", [2, 3, 5, 8])
def test_halves_are_disjoint_even_of_each_class_and_give_the_outcome(queries):
    tasks = replace(TASKS, queries=queries)

    class Label:
        """Says 1 of each query of a class, and 0 of all others: so a score is a share of that class."""

        def __init__(self, label):
            self.label = label

        def adapt(self, meta_params, support_x, support_y):
            return len(support_x)

        def predict(self, state, query_x):
            return np.eye(3)[np.full(query_x.shape[:2], self.label)]

    found = gather({str(c): (Label(c), {}) for c in range(3)}, tasks, episodes=200, backend=NUMPY)
    sizes = np.asarray([3 * queries // 2, (3 * queries + 1) // 2])
    right = found.halves  # each class's share of the half
    np.testing.assert_allclose(right.sum(axis=1), 1)
    for task in range(200):
        for order in (sizes, sizes[::-1]):
            counts = right[:, :, task] * order[:, None]
            if np.allclose(counts, np.round(counts)) and np.allclose(counts.sum(axis=0), queries):
                assert np.abs(counts[0] - counts[1]).max() < 1 + 1e-9
                break
        else:
            raise AssertionError("the halves do not make the whole")
    if queries % 2:
        larger = (right[0] > right[1]).mean(axis=1)
        assert ((larger > 0.3) & (larger < 0.7)).all()


def test_halves_are_drawn_anew_for_each_task_and_seed_at_random():
    waves = replace(WAVES, queries=8)
    first, second = (gather(regressors(), waves, episodes=200, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first.halves, second.halves)
    assert 0.35 < (first.halves[0] > first.halves[1]).mean() < 0.65
    np.testing.assert_allclose(first.halves.mean(axis=0), first.outcomes, rtol=1e-12)


def test_evidence_is_the_same_on_all_backends():
    expected = gather(classifiers(), TASKS, episodes=20)
    for name in ("torch-analytic", "torch-autograd"):
        backend = backend_of(name)
        found = gather(classifiers(backend), TASKS, episodes=20)
        for each in ("outcomes", "halves"):
            np.testing.assert_allclose(getattr(found, each), getattr(expected, each), rtol=1e-9)
        for each, values in expected.known.items():
            np.testing.assert_allclose(found.known[each], values, rtol=1e-8, atol=1e-10, err_msg=each)


class Mixed:
    """Blocks of few and of many shots in turn."""

    def sample(self, n_tasks, rng, backend):
        return replace(TASKS, shots=int(rng.choice([1, 4]))).sample(n_tasks, rng, backend)


def test_blocks_may_differ_in_their_shots():
    found = gather(classifiers(), Mixed(), episodes=100)
    assert set(found.known["shots"]) == {1.0, 4.0}
    for name, (learner, params) in classifiers().items():
        expected = mltk.evaluate(learner, params, Mixed(), episodes=100).values
        assert np.array_equal(found.evaluation(name).values, expected)


def test_classes_and_groups_are_kept_and_parts_can_be_taken():
    glyphs = mltk.data.Glyphs(alphabets=3).tasks(ways=4, shots=1, queries=2)
    learner = mltk.algorithms.Prototypical(mltk.models.Sequential([mltk.ops.Flatten()]))
    found = gather({"means": (learner, {})}, glyphs, episodes=30, backend=NUMPY)
    assert found.classes.shape == found.groups.shape == (30, 4)
    assert found.evaluation("means").interval("classes").over == "classes"
    for tasks in (np.arange(30) % 3 == 0, np.arange(0, 30, 3), slice(0, 30, 3)):
        part = found.take(tasks)
        assert np.array_equal(part.outcomes, found.outcomes[:, ::3])
        assert np.array_equal(part.halves, found.halves[..., ::3])
        assert np.array_equal(part.classes, found.classes[::3])
        assert np.array_equal(part.groups, found.groups[::3])
        assert np.array_equal(part.known["logme"], found.known["logme"][::3])
        assert part.learners == found.learners
    assert "30 tasks" in repr(found)
    assert "means" in repr(found)
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["outcomes"] == found.outcomes.tolist()
    assert told["known"]["logme"]["needs"] == "support"


def test_who_watches_is_told_of_each_learner_what_was_known():
    seen = []

    class Notes:
        def on_step(self, seen):
            raise AssertionError

        def on_tasks(self, tasks):
            seen.append(tasks)

    found = gather(classifiers(), TASKS, episodes=30, watch=Notes())
    assert [(each.name, each.first) for each in seen] == [
        (name, first) for first in (0, 20) for name in ("maml", "ridge", "matching")
    ]
    assert np.array_equal(np.concatenate([s.values for s in seen if s.name == "ridge"]), found.outcomes[1])
    assert np.array_equal(seen[-1].measures["logme"], found.known["logme"][20:])


def left_out(x, y):
    """The errors of a linear fit that is made anew without each example, over those of the mean."""
    x = np.concatenate([np.ones((len(x), 1)), x / np.abs(x).max()], axis=1)
    y = y - y.mean(axis=0)
    errors = np.zeros(2)
    for i in range(len(x)):
        rest = np.arange(len(x)) != i
        weights = np.linalg.solve(x[rest].T @ x[rest] + 1e-3 * np.eye(x.shape[1]), x[rest].T @ y[rest])
        errors += [np.sum((y[i] - guess) ** 2) for guess in (x[i] @ weights, y[rest].mean(axis=0))]
    return errors[0] / errors[1]


@pytest.mark.parametrize("backend", [backend_of(name) for name in BACKENDS], ids=str)
def test_the_regression_measures_are_by_definition(backend):
    rng = np.random.default_rng(0)
    x, y = 3 * rng.normal(size=(4, 6, 2)), rng.normal(size=(4, 6, 3)) + 5
    arrays = (backend.asarray(each) for each in (x, y, x, y))
    found = regression_measures(mltk.Episode(*arrays))
    expected = [left_out(*task) for task in zip(x, y, strict=True)]
    np.testing.assert_allclose(found["leave_one_out_linear"], expected, rtol=1e-9)
    scale = np.sqrt(((y - y.mean(axis=1, keepdims=True)) ** 2).mean(axis=(1, 2)))
    np.testing.assert_allclose(found["target_scale"], scale, rtol=1e-12)
    assert (found["shots"] == 6).all()


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_the_regression_measures_know_lines_and_parabolas_in_any_units(scale):
    x = np.random.default_rng(0).normal(size=(3, 8, 1))
    line, parabola, constant = scale * (2 * x + 1), scale * (x * x - x), scale * np.full_like(x, 0.1)
    units = 1 / scale * x

    def of(y):
        return regression_measures(mltk.Episode(units, y, units, y))

    assert of(line)["leave_one_out_linear"].max() < 1e-4
    assert of(parabola)["leave_one_out_linear"].min() > 0.1
    assert of(parabola)["leave_one_out_quadratic"].max() < 1e-2
    assert of(constant)["target_scale"].max() == 0
    assert of(constant)["leave_one_out_linear"].max() == 0
    shifted = of(line + 1e3 * scale)
    np.testing.assert_allclose(shifted["leave_one_out_linear"], of(line)["leave_one_out_linear"], rtol=1e-5)
    np.testing.assert_allclose(of(line)["target_scale"], line.std(axis=(1, 2)), rtol=1e-9)


def test_a_single_example_tells_nothing():
    one = np.ones((2, 1, 1))
    found = regression_measures(mltk.Episode(one, 3 * one, one, one))
    assert all(np.isfinite(values).all() for values in found.values())


def test_bad_arguments_are_refused():
    learners = classifiers()
    for wrong, words in [
        ({"learners": {}}, "dict"),
        ({"tasks": "blobs"}, "tasks"),
        ({"episodes": 0}, "episodes"),
        ({"seed": -1}, "seed"),
        ({"batch": 0}, "batch"),
        ({"tasks": mltk.data.Blobs(ways=2, shots=1, queries=1).sample}, "tasks"),
    ]:
        arguments = {"learners": learners, "tasks": TASKS, "episodes": 20} | wrong
        with pytest.raises(SettingError, match=words):
            gather(**arguments)
    one = {"means": (mltk.algorithms.Prototypical(mltk.models.Sequential([])), {})}

    class OneQuery:
        def sample(self, n_tasks, rng, backend):
            e = TASKS.sample(n_tasks, rng, backend)
            return replace(e, query_x=e.query_x[:, :1], query_y=e.query_y[:, :1])

    with pytest.raises(SettingError, match="at least 2"):
        gather(one, OneQuery(), episodes=20, backend=NUMPY)
    with pytest.raises(SettingError, match="support_x, support_y, query_x"):
        known(learners, 3)
    with pytest.raises(NotFiniteError):
        known(learners, (np.full((1, 3, 3), np.nan), np.asarray([[0, 1, 2]]), np.zeros((1, 2, 3))))
    with pytest.raises(SettingError, match="regression"):
        regression_measures(TASKS.sample(2, 0, NUMPY))
    some = Measures({"a": np.zeros(5)}, {"a": "support"})
    with pytest.raises(ShapeError, match="halves"):
        Evidence(("a",), "mse", np.zeros((1, 5)), np.zeros((2, 2, 5)), some, np.zeros(1))
    with pytest.raises(ShapeError, match="known has a"):
        Evidence(("a",), "mse", np.zeros((1, 4)), np.zeros((2, 1, 4)), some, np.zeros(1))
    with pytest.raises(SettingError, match="metric"):
        Evidence(("a",), "loss", np.zeros((1, 5)), np.zeros((2, 1, 5)), some, np.zeros(1))
    with pytest.raises(SettingError, match="one of maml"):
        gather(learners, TASKS, episodes=20).evaluation("nobody")
