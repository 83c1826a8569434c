"""Values that make no sense are refused at every door, before any work, and by name."""

import dataclasses

import numpy as np
import pytest
import torch
from mltk_backends.torch import ModuleModel
from routes import NUMPY
from torch import nn

import mltk
from mltk.algorithms import (
    ANIL,
    BOIL,
    MAML,
    BayesianRidge,
    ImplicitMAML,
    LearnedOptimizer,
    LogisticRegression,
    Matching,
    MetaSGD,
    Prototypical,
    Reptile,
    RidgeRegression,
)
from mltk.errors import LabelError, NotFiniteError, SettingError, ShapeError

TORCH = mltk.backend("torch", dtype="float64", engine="autograd")
META = mltk.backend("torch", dtype="float64", device="meta")
WAYS = 4
MODEL = mltk.models.mlp([3, WAYS])
EMBEDDING = mltk.models.Sequential([mltk.ops.Linear(3, 2)])
LEARNERS = {
    "maml": MAML(MODEL, "cross_entropy"),
    "meta-sgd": MetaSGD(MODEL, "cross_entropy"),
    "anil": ANIL(mltk.models.mlp([3, 3, WAYS]), "cross_entropy"),
    "boil": BOIL(mltk.models.mlp([3, 3, WAYS]), "cross_entropy"),
    "reptile": Reptile(MODEL, "cross_entropy"),
    "implicit": ImplicitMAML(MODEL, "cross_entropy"),
    "learned": LearnedOptimizer(MODEL, "cross_entropy", mltk.optim.transforms.Scale()),
    "prototypical": Prototypical(EMBEDDING),
    "matching": Matching(EMBEDDING),
    "full context": Matching(EMBEDDING, full_context=True, features=2),
    "ridge": RidgeRegression(EMBEDDING),
    "Bayesian ridge": BayesianRidge(EMBEDDING),
    "logistic": LogisticRegression(EMBEDDING),
}


class Fixed:
    """A task source with one episode, whatever is asked for."""

    def __init__(self, episode):
        self.episode = episode

    def sample(self, n_tasks, rng, backend):
        numbers = [0] * n_tasks
        parts = {
            name: getattr(self.episode, name)[numbers]
            for name in ("support_x", "support_y", "query_x", "query_y")
        }
        return mltk.Episode(**parts, ways=self.episode.ways, backend=backend)


class UserWritten:
    """A learner with the four methods and nothing else; it must not be asked about bad tasks."""

    asked = 0

    def init(self, backend, seed):
        return {"w": backend.asarray(np.zeros(WAYS))}

    def adapt(self, meta_params, support_x, support_y):
        self.asked += 1
        return meta_params

    def predict(self, state, query_x):
        return state["w"] + 0 * query_x[..., :1]

    def value_and_grad(self, meta_params, episode):
        self.asked += 1
        return 0.0, {"w": 0 * meta_params["w"]}


def doors(backend, learner):
    """The calls that take tasks, each a function of an episode."""
    meta_params = learner.init(backend, 0)
    yield "value_and_grad", lambda e: learner.value_and_grad(meta_params, e)
    yield "train", lambda e: mltk.train(learner, Fixed(e), backend=backend, steps=1)
    yield "evaluate", lambda e: mltk.evaluate(learner, meta_params, Fixed(e), episodes=1, backend=backend)
    yield "adapt", lambda e: learner.adapt(meta_params, e.support_x, e.support_y, ways=e.ways)


def good(backend, *, tasks=2, per_class=2, ways=WAYS, base=0):
    rng = np.random.default_rng(0)
    labels = np.stack([rng.permutation(np.repeat(np.arange(ways), per_class)) for _ in range(tasks)]) + base
    x = rng.normal(size=(tasks, ways * per_class, 3))
    y = backend.asarray(labels)
    return mltk.Episode(backend.asarray(x), y, backend.asarray(x + 1), y, ways=ways, backend=backend)


def changed(episode, name, place, value):
    """The episode with one number changed."""
    values = np.array(episode.backend.to_numpy(getattr(episode, name)))
    values[place] = value
    return dataclasses.replace(episode, **{name: episode.backend.asarray(values)})


def without_class(episode, task, label):
    """The episode, where another class has the support examples of one."""
    values = np.array(episode.backend.to_numpy(episode.support_y))
    values[task][values[task] == label] = (label + 1) % WAYS
    return dataclasses.replace(episode, support_y=episode.backend.asarray(values))


FAULTS = {
    "labels from 1": (
        lambda e: good(e.backend, base=1),
        LabelError,
        r"_y holds the label 4; expected 0\.\.3; labels start from 0",
        (),
    ),
    "a negative label": (
        lambda e: changed(e, "support_y", (0, 0), -1),
        LabelError,
        r"support_y holds the label -1; expected 0\.\.3",
        (),
    ),
    "a label too large": (
        lambda e: changed(e, "support_y", (0, 0), 9),
        LabelError,
        r"support_y holds the label 9; expected 0\.\.3",
        (),
    ),
    "a class without support": (
        lambda e: without_class(e, 0, 1),
        LabelError,
        "support_y of task 0 has no example of class 1; expected all 4 classes",
        (),
    ),
    "a query label": (
        lambda e: changed(e, "query_y", (0, 0), 4),
        LabelError,
        r"query_y holds the label 4; expected 0\.\.3",
        ("adapt",),
    ),
    "NaN": (lambda e: changed(e, "support_x", (0, 0, 0), np.nan), NotFiniteError, "support_x holds NaN", ()),
    "infinity": (
        lambda e: changed(e, "query_x", (0, 0, 0), np.inf),
        NotFiniteError,
        "query_x holds NaN or infinity",
        ("adapt",),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("learner", LEARNERS)
def test_every_learner_refuses_at_every_door(backend64, learner, fault):
    change, error, message, but = FAULTS[fault]
    episode = good(backend64)
    for door, call in doors(backend64, LEARNERS[learner]):
        call(episode)
        if door not in but:
            with pytest.raises(error, match=message):
                call(change(episode))


@pytest.mark.parametrize("fault", FAULTS)
def test_training_and_evaluation_check_for_learners_that_do_not(fault):
    change, error, message, _ = FAULTS[fault]
    learner = UserWritten()
    for door, call in doors(NUMPY, learner):
        if door in ("train", "evaluate"):
            call(good(NUMPY))
            asked = learner.asked
            assert asked > 0
            with pytest.raises(error, match=message):
                call(change(good(NUMPY)))
            assert learner.asked == asked


@pytest.mark.parametrize("name", ["support_y", "query_y"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_regression_targets_that_are_not_finite(backend64, name, value):
    learner = MAML(mltk.models.mlp([3, 2]), "mse")
    rng = np.random.default_rng(0)
    x, y = (backend64.asarray(rng.normal(size=(2, 3, width))) for width in (3, 2))
    episode = changed(mltk.Episode(x, y, x, y, backend=backend64), name, (0, 1, 1), value)
    for door, call in doors(backend64, learner):
        if (door, name) != ("adapt", "query_y"):
            with pytest.raises(NotFiniteError, match=f"{name} holds NaN or infinity"):
                call(episode)


def test_queries_that_are_not_finite_have_no_predictions(backend64):
    episode = good(backend64)
    for learner in LEARNERS.values():
        state = learner.adapt(learner.init(backend64, 0), episode.support_x, episode.support_y)
        with pytest.raises(NotFiniteError, match="query_x holds NaN"):
            learner.predict(state, changed(episode, "query_x", (1, 2, 0), np.nan).query_x)


@pytest.mark.parametrize("learner", LEARNERS)
def test_adapting_finds_how_many_ways_there_are_and_gaps_in_them(backend64, learner):
    learner, episode = LEARNERS[learner], good(backend64)
    meta_params = learner.init(backend64, 0)
    asked, found = (
        learner.predict(
            learner.adapt(meta_params, episode.support_x, episode.support_y, ways=ways), episode.query_x
        )
        for ways in (WAYS, None)
    )
    np.testing.assert_array_equal(backend64.to_numpy(found), backend64.to_numpy(asked))
    gap = without_class(episode, 1, 2)
    with pytest.raises(LabelError, match=r"task 1 has no example of class 2.*ways is None.*label is 3"):
        learner.adapt(meta_params, gap.support_x, gap.support_y)
    with pytest.raises(LabelError, match=r"has no example of class 4; expected all 5 classes$"):
        learner.adapt(meta_params, episode.support_x, episode.support_y, ways=5)
    for ways in (0, 2.0, True):
        with pytest.raises(SettingError, match="ways is"):
            learner.adapt(meta_params, episode.support_x, episode.support_y, ways=ways)


def test_ways_of_regression_are_an_error():
    learner = MAML(mltk.models.mlp([3, 2]), "mse")
    x, y = np.zeros((1, 2, 3)), np.zeros((1, 2, 2))
    with pytest.raises(SettingError, match="ways is 2 and support_y has dtype float64; expected integer"):
        learner.adapt(learner.init(NUMPY, 0), x, y, ways=2)


def test_prototypes_are_not_made_up_for_classes_without_support():
    learner = Prototypical(mltk.models.Sequential([]))
    x, y = np.array([[[3.0, 0], [0, 3]]]), np.array([[2, 5]])
    with pytest.raises(LabelError, match="has no example of class 0; expected all 6 classes"):
        learner.adapt({}, x, y)


@pytest.mark.parametrize("engine", ["module", "shapes alone"])
def test_a_model_with_fewer_outputs_than_ways_is_refused_also_if_it_does_not_say_how_many(engine):
    class Mute:
        """A model that does not say how many outputs it has."""

        shapes, init, apply = MODEL.shapes, MODEL.init, MODEL.apply

    model = ModuleModel(nn.Linear(3, WAYS)) if engine == "module" else Mute()
    learner = MAML(model, "cross_entropy")
    meta_params = learner.init(TORCH, 0)
    if engine == "module":
        learner.value_and_grad(meta_params, good(TORCH))
        with pytest.raises(ShapeError, match="the model has 4 outputs; expected at least as many as ways, 6"):
            learner.value_and_grad(meta_params, good(TORCH, ways=6))
    more = good(TORCH, ways=5)
    with pytest.raises(ShapeError, match="the model has 4 outputs; expected at least as many as ways, 5"):
        learner.adapt(meta_params, more.support_x, more.support_y)


@pytest.fixture
def counted(monkeypatch):
    """How often values are looked at, by the names of the arrays."""
    seen = []
    original = mltk.arguments.check_finite
    monkeypatch.setattr(
        mltk.arguments,
        "check_finite",
        lambda backend, name, array: (seen.append(name), original(backend, name, array)),
    )
    return seen


def test_an_episode_is_looked_at_once(counted):
    episode, learner = good(NUMPY), LEARNERS["maml"]
    meta_params = learner.init(NUMPY, 0)
    for _ in range(3):
        learner.value_and_grad(meta_params, episode)
        LEARNERS["prototypical"].value_and_grad(LEARNERS["prototypical"].init(NUMPY, 0), episode)
    assert counted == ["support_x", "query_x"]
    mltk.train(learner, Fixed(episode), backend=NUMPY, steps=3)
    assert counted == ["support_x", "query_x"] * 4  # and three episodes of training
    episode.validate()
    assert counted == ["support_x", "query_x"] * 5  # who asks is told


def test_what_is_made_of_an_episode_is_looked_at_anew():
    episode = good(NUMPY).validate()
    with pytest.raises(LabelError, match="holds the label -1"):
        LEARNERS["maml"].value_and_grad(
            LEARNERS["maml"].init(NUMPY, 0), changed(episode, "query_y", (0, 0), -1)
        )


def test_nothing_waits_for_a_device():
    """The meta device has no values: whoever looked at one would fail."""
    episode = good(NUMPY).to(META)
    learner = LEARNERS["maml"]
    meta_params = learner.init(META, 0)
    learner.value_and_grad(meta_params, episode)
    learner.adapt(meta_params, episode.support_x, episode.support_y)
    for name in ("prototypical", "matching", "ridge"):
        learner = LEARNERS[name]
        meta_params = learner.init(META, 0)
        learner.value_and_grad(meta_params, episode)
        learner.adapt(meta_params, episode.support_x, episode.support_y, ways=WAYS)


def test_adapting_still_works_within_the_transforms_of_torch():
    learner, episode = MAML(MODEL, "cross_entropy"), good(mltk.backend("torch", dtype="float64"))
    meta_params = learner.init(episode.backend, 0)

    def outputs(x):
        return learner.predict(learner.adapt(meta_params, x, episode.support_y), episode.query_x).sum()

    slope = torch.func.jacrev(outputs)(episode.support_x)
    step = 1e-6
    moved = episode.support_x.clone()
    moved[0, 0, 0] += step
    moved_back = episode.support_x.clone()
    moved_back[0, 0, 0] -= step
    numeric = (outputs(moved) - outputs(moved_back)) / (2 * step)
    assert float(slope[0, 0, 0]) == pytest.approx(float(numeric), abs=1e-7)


def test_an_error_in_training_names_the_step():
    class Later:
        drawn = 0

        def sample(self, n_tasks, rng, backend):
            self.drawn += 1
            return good(backend) if self.drawn < 3 else changed(good(backend), "query_y", (0, 0), -3)

    with pytest.raises(LabelError, match="holds the label -3") as raised:
        mltk.train(LEARNERS["maml"], Later(), backend=NUMPY, steps=5)
    assert raised.value.__notes__ == ["in the tasks of step 3 of the training"]


def test_predictions_of_another_shape_are_not_compared_with_the_labels():
    class Broadcasts(UserWritten):
        def predict(self, state, query_x):
            return state["w"] + 0 * query_x[:, :1, :1]

    learner = Broadcasts()
    with pytest.raises(
        ShapeError, match=r"the predictions have shape \(20, 1, 4\); expected \(20, 8, 'ways'\)"
    ):
        mltk.evaluate(learner, learner.init(NUMPY, 0), Fixed(good(NUMPY)), episodes=20)


ELSEWHERE = dataclasses.replace(NUMPY, device="elsewhere")
"""NumPy's arrays as if they were on a device: what looks at their values all the same can be counted."""


class Drawn:
    """Episodes in turn, the last one again and again."""

    def __init__(self, *episodes):
        self.episodes = list(episodes)

    def sample(self, n_tasks, rng, backend):
        return self.episodes.pop(0) if len(self.episodes) > 1 else self.episodes[0]


def test_on_a_device_the_first_step_of_a_training_is_checked_and_all_if_told_to():
    learner, right = LEARNERS["maml"], good(ELSEWHERE)
    wrong = changed(right, "query_y", (0, 0), -3)
    with pytest.raises(LabelError, match="query_y holds the label -3"):
        mltk.train(learner, Drawn(wrong), backend=ELSEWHERE, steps=1)
    mltk.train(learner, Drawn(right, wrong), backend=ELSEWHERE, steps=3)
    with pytest.raises(LabelError, match="query_y holds the label -3"):
        mltk.train(learner, Drawn(right, wrong), backend=ELSEWHERE, steps=3, validate=True)


def test_on_a_device_evaluation_checks_labels_and_nothing_larger(counted):
    learner = UserWritten()  # those of mltk ask the arrays, which say that they are on the host
    meta_params = learner.init(ELSEWHERE, 0)
    right = good(ELSEWHERE, tasks=20)
    mltk.evaluate(learner, meta_params, Drawn(right), episodes=20, backend=ELSEWHERE)
    assert counted == []
    for wrong in (changed(right, "support_y", (3, 0), 7), changed(right, "query_y", (3, 0), 7)):
        with pytest.raises(LabelError, match="_y holds the label 7"):
            mltk.evaluate(learner, meta_params, Drawn(wrong), episodes=20, backend=ELSEWHERE)
