"""Parts of the toolkit that its facade puts to use: memory, guarded steps, allocation, data that fail."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from routes import ROUTES

import mltk
from mltk.errors import SettingError

pytest.importorskip("sklearn", reason="needs the extra toolkit")

NUMPY = mltk.backend("numpy")
SINUSOIDS = mltk.data.Sinusoid(shots=10, queries=10)
GLYPHS = mltk.data.Glyphs(alphabets=8, characters=5, drawings=6, image_size=16)


def sets_of(episode):
    return episode.support_x, episode.support_y, episode.query_x


def network():
    return mltk.models.conv4(1, 16, width=4)


@pytest.mark.parametrize("backend", ROUTES[:2], ids=str)
def test_learners_that_adapt_parameters_start_from_what_similar_tasks_taught_where_that_is_best(
    backend, tmp_path
):
    maml = mltk.algorithms.MAML(mltk.models.mlp([1, 40, 40, 1]), "mse")
    ridge = mltk.RidgeRegression(mltk.models.mlp([1, 4]), scale=1.0)
    toolkit = mltk.MetaLearningToolkit(
        {"maml": maml, "ridge": ridge}, backend=backend, features=["transfer"], folder=tmp_path
    )
    toolkit.train(SINUSOIDS, steps=300, episodes=100, progress=False)
    evidence = toolkit.decisions.evidence
    assert evidence.learners == ("maml", "ridge", "maml from memory")
    cold, _, warm = evidence.outcomes
    assert (warm - cold).mean() + 2 * (warm - cold).std() / 10 < 0
    assert toolkit.decisions.best == "maml from memory"
    episode = SINUSOIDS.sample(5, 7, backend)
    answer = toolkit.predict(*sets_of(episode))
    assert answer.learner == ("maml from memory",) * 5
    memory, params = toolkit.entries["maml from memory"]
    assert memory.size == 200
    alone = memory.predict(memory.adapt(params, *sets_of(episode)[:2]), episode.query_x)
    np.testing.assert_allclose(answer.outputs, backend.to_numpy(alone), rtol=1e-5)
    assert bool(np.any(backend.to_numpy(memory.recall(*sets_of(episode)[:2]).used)))
    loaded = mltk.MetaLearningToolkit.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict(*sets_of(episode)).outputs, answer.outputs)
    assert toolkit.transfer(SINUSOIDS).learner is maml  # not the one that remembers already


def test_there_is_no_memory_where_it_is_not_named_or_nothing_could_be_judged():
    maml = mltk.algorithms.MAML(mltk.models.mlp([4, 8, 4]), "cross_entropy")
    for shots, features in ((1, ["transfer"]), (2, []), (2, ["transfer"])):
        tasks = mltk.data.Blobs(ways=4, shots=shots, queries=4)
        toolkit = mltk.MetaLearningToolkit({"maml": maml}, backend=NUMPY, features=features)
        toolkit.train(tasks, steps=2, episodes=20, progress=False)
        assert len(toolkit.entries) == (2 if shots == 2 and features else 1)


@pytest.mark.parametrize("backend", ROUTES[:2], ids=str)
def test_inner_steps_are_as_careful_as_failures_are_likely(backend):
    ridge = {"ridge": mltk.RidgeRegression(mltk.models.mlp([1, 8]), scale=1.0)}
    toolkit = mltk.MetaLearningToolkit(ridge, backend=backend)
    toolkit.train(SINUSOIDS, steps=10, episodes=60, progress=False)
    sets = sets_of(SINUSOIDS.sample(6, 3, backend))
    guard = toolkit.guard(*sets)
    risk = toolkit.predict(*sets).failure_risk
    np.testing.assert_array_equal(guard.risk(), risk)
    model = mltk.models.mlp([1, 4, 1])
    learner = mltk.algorithms.LearnedOptimizer(model, "mse", guard, inner_steps=1, lr=5.0)
    params = learner.init(backend, 0)

    def losses(state):
        return ((backend.to_numpy(learner.predict(state, sets[0]) - sets[1])) ** 2).mean(axis=(1, 2))

    unmoved = mltk.algorithms.LearnedOptimizer(model, "mse", guard, inner_steps=0, lr=5.0)
    before = losses(unmoved.adapt(params, *sets[:2]))
    after = losses(learner.adapt(params, *sets[:2]))
    assert (after < before).all()
    plain = mltk.MetaLearningToolkit(ridge, backend=backend, features=())
    plain.train(SINUSOIDS, steps=1, episodes=20, progress=False)
    with pytest.raises(SettingError, match="failures are not foreseen here; expected features with"):
        plain.guard(*sets)


def test_a_policy_says_how_often_each_task_is_looked_at():
    learners = {"prototypical": mltk.algorithms.Prototypical(network())}
    toolkit = mltk.MetaLearningToolkit(learners, backend=NUMPY, features=["scaling"])
    toolkit.train(GLYPHS.tasks(3, 1, 2), steps=4, episodes=20, progress=False)
    policy = toolkit.allocate(price=0.0, levels=(1, 3), episodes=20, progress=False)
    assert policy.levels == (1, 3)
    episode = GLYPHS.held_out().tasks(3, 1, 2).sample(6, 0, NUMPY)
    answer = toolkit.predict(*sets_of(episode), compute=policy)
    learner, params = toolkit.entries["prototypical"]
    views = mltk.toolkit.TestTimeScaler(learner, views=mltk.data.Jitter())
    alone = views.predict(params, *sets_of(episode), compute=policy)
    np.testing.assert_array_equal(answer.passes, alone.passes)
    np.testing.assert_array_equal(answer.outputs, alone.outputs)
    ridge = mltk.MetaLearningToolkit(["ridge"], backend=NUMPY, features=["scaling"])
    ridge.train(mltk.data.Blobs(ways=3, shots=2, queries=4), steps=1, episodes=20, progress=False)
    with pytest.raises(SettingError, match="tasks are looked at once; expected images"):
        ridge.allocate(price=0.1)
    with pytest.raises(SettingError, match="tasks that decisions are by"):
        mltk.MetaLearningToolkit(["ridge"], backend=NUMPY, features=()).allocate(price=0.1)


def test_tasks_that_cannot_be_drawn_at_first_are_drawn_when_learners_are_judged():
    class Failing:
        """Fails the first time that it is asked for so many tasks."""

        def __init__(self):
            self.asked = {1: True, 4: True}

        def sample(self, n_tasks, rng, backend):
            if not self.asked.setdefault(n_tasks, False):
                self.asked[n_tasks] = True
                raise OSError("the disk is asleep")
            return SINUSOIDS.sample(n_tasks, rng, backend)

    ridge = {"ridge": mltk.RidgeRegression(mltk.models.mlp([1, 4]), scale=1.0)}
    for use in (
        lambda toolkit, tasks: toolkit.decide_by(tasks, episodes=20).outcomes[0],
        lambda toolkit, tasks: toolkit.compare(tasks, episodes=20)["ridge"].values,
    ):
        found = []
        for features in (["recovery"], []):
            toolkit = mltk.MetaLearningToolkit(ridge, backend=NUMPY, features=features)
            toolkit.train(SINUSOIDS, steps=1, episodes=20, progress=False)
            if not features:
                with pytest.raises(OSError, match="asleep"):
                    use(toolkit, Failing())
            found.append(use(toolkit, Failing() if features else SINUSOIDS))
        np.testing.assert_array_equal(*found)


def test_a_source_that_fails_at_any_draw_is_asked_again():
    class Failing:
        """Fails at one draw."""

        def __init__(self, at):
            self.left = at

        def sample(self, n_tasks, rng, backend):
            self.left -= 1
            if self.left == 0:
                raise OSError("the disk is asleep")
            return SINUSOIDS.sample(n_tasks, rng, backend)

    ridge = {"ridge": mltk.RidgeRegression(mltk.models.mlp([1, 4]), scale=1.0)}
    for at in range(1, 7):
        toolkit = mltk.MetaLearningToolkit(ridge, backend=NUMPY, features=["recovery"])
        tasks = Failing(at)
        toolkit.train(tasks, steps=2, episodes=20, progress=False)
        assert tasks.left <= 0


def test_a_learner_that_cannot_remember_leaves_the_others_as_they_are():
    maml = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse")

    class Double:
        """Adapts to other numbers than it has learned."""

        init, value_and_grad = maml.init, maml.value_and_grad

        def adapt(self, meta_params, x, y):
            adapted = maml.adapt(meta_params, x, y)
            return mltk.tree.map(lambda leaf: leaf.astype(np.float64), adapted)

        def predict(self, state, x):
            return maml.predict(mltk.tree.map(lambda leaf: leaf.astype(np.float32), state), x)

    backend = mltk.backend("numpy", dtype="float32")
    toolkit = mltk.MetaLearningToolkit(
        {"double": Double(), "maml": maml}, backend=backend, features=["transfer"]
    )
    with pytest.warns(UserWarning, match="double has no memory: "):
        toolkit.train(SINUSOIDS, steps=2, episodes=20, progress=False)
    assert set(toolkit.entries) == {"double", "maml", "maml from memory"}


@dataclass(frozen=True)
class Downloaded(mltk.data.ImageDataset):
    """Characters that come from a server which is away at first."""

    failures: list = field(default_factory=list, compare=False)

    def _load(self):
        if self.failures:
            raise self.failures.pop()
        return GLYPHS.pictures

    def held_out(self):
        return GLYPHS.held_out()


def test_data_that_cannot_be_had_at_first_are_asked_for_again():
    learners = {"ridge": mltk.RidgeRegression(network())}
    how = {"steps": 2, "episodes": 20, "progress": False}

    def away():
        dataset = Downloaded([ConnectionError("the server is away"), TimeoutError("it is slow")])
        return mltk.data.ImageTasks(dataset, 3, 1, 2)

    with pytest.raises(TimeoutError, match="slow"):
        mltk.MetaLearningToolkit(learners, backend=NUMPY, features=()).train(away(), **how)
    found = mltk.MetaLearningToolkit(learners, backend=NUMPY, features=["recovery"]).train(away(), **how)
    plain = mltk.MetaLearningToolkit(learners, backend=NUMPY, features=()).train(
        mltk.data.ImageTasks(GLYPHS, 3, 1, 2), **how
    )
    for one, other in zip(
        *(mltk.tree.leaves(runs["ridge"].meta_params) for runs in (found, plain)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
