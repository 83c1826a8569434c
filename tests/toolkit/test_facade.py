"""The toolkit: learners trained, compared, chosen from and reported on, all the way."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest

import mltk
from mltk.errors import ArrayError, MissingLibraryError, RunError, SettingError, ShapeError
from mltk.toolkit.kept_back import kept_back

pytest.importorskip("sklearn", reason="needs the extra toolkit")

NUMPY = mltk.backend("numpy")
BLOBS = mltk.data.Blobs(ways=3, shots=2, queries=4)
GLYPHS = mltk.data.Glyphs(alphabets=8, characters=5, drawings=6, image_size=16)


def network(**settings):
    return mltk.models.conv4(1, 16, width=4, **settings)


def learners():
    return {
        "prototypical": mltk.algorithms.Prototypical(network()),
        "ridge": mltk.RidgeRegression(network()),
        "matching": mltk.algorithms.Matching(network()),
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """On NumPy, with everything switched on, in a folder."""
    folder = tmp_path_factory.mktemp("toolkit")
    toolkit = mltk.MetaLearningToolkit(
        learners(), backend=NUMPY, folder=folder, records=folder / "records.sqlite"
    )
    tasks = GLYPHS.tasks(ways=3, shots=1, queries=2)
    toolkit.train(tasks, steps=8, episodes=60, progress=False)
    return toolkit


def unseen(backend=NUMPY, n_tasks=3):
    return GLYPHS.held_out().tasks(ways=3, shots=1, queries=2).sample(n_tasks, 0, backend)


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_whole_way_on_glyphs(library, tmp_path):
    """Data, three learners, comparison, choice, failures foreseen, more computing, report."""
    if library == "torch":
        pytest.importorskip("torch")
    be = mltk.backend(library, dtype="float64")
    with mltk.MetaLearningToolkit(learners(), backend=be, records=tmp_path / "records.sqlite") as toolkit:
        runs = toolkit.train(GLYPHS.tasks(3, 1, 2), steps=8, episodes=60, progress=False)
        assert {name: run.steps for name, run in runs.items()} == dict.fromkeys(learners(), 8)
        table = toolkit.compare(episodes=40, progress=False)
        for name, (
            learner,
            params,
        ) in toolkit.entries.items():  # on the tasks of an evaluation with that seed
            plain = mltk.evaluate(learner, params, kept_back(GLYPHS.tasks(3, 1, 2))[1], episodes=40, seed=1)
            np.testing.assert_array_equal(table[name].values, plain.values)
        episode = unseen(be)
        sets = (episode.support_x, episode.support_y, episode.query_x)
        names = toolkit.select(*sets)
        once, often = (toolkit.predict(*sets, compute=compute) for compute in (1, 4))
        assert once.learner == often.learner == names
        for task, name in enumerate(names):  # one pass is what the chosen learner says
            learner, params = toolkit.entries[name]
            logits = be.to_numpy(learner.predict(learner.adapt(params, *sets[:2]), sets[2]))[task]
            odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
            odds /= odds.sum(axis=-1, keepdims=True)
            np.testing.assert_allclose(once.probabilities[task], odds, rtol=1e-6)
        assert (once.passes == 1).all()
        assert (often.passes == 4).all()
        assert (often.spread > 0).any()
        assert not (once.spread > 0).any()
        assert ((often.failure_risk >= 0) & (often.failure_risk <= 1)).all()
        np.testing.assert_allclose(often.probabilities.sum(axis=-1), 1)
        by_seed = "SELECT seed, count(*) FROM records WHERE metric = 'accuracy' GROUP BY seed"
        assert toolkit.records.sql(by_seed) == [(0, 3 * 60), (1, 3 * 40)]  # decided by, and compared on
        of_steps = "SELECT learner, count(*) FROM records WHERE run LIKE '%/training' GROUP BY learner"
        assert [count for _, count in toolkit.records.sql(of_steps)] == [8, 8, 8]
        page = toolkit.report(tmp_path / "report.html", episodes=20).read_text()
    HTMLParser().feed(page)
    assert all(name in page for name in learners())
    assert "Choosing a learner" in page
    assert not toolkit.folder.exists()  # it was a temporary one


def test_nothing_is_decided_by_classes_that_were_trained_on(trained):
    of_training = {
        name for path in trained.folder.glob("*/classes.json") for name in json.loads(path.read_text())
    }
    rest, back = kept_back(GLYPHS.tasks(3, 1, 2))
    assert not set(rest.class_names) & set(back.class_names)
    assert not of_training & set(back.class_names)
    assert trained.decisions.evidence.groups.max() < len(back.group_names)
    drawn = back.sample(20, 0, NUMPY)
    held = {image.tobytes() for image in back.dataset.images}
    assert all(image.tobytes() in held for image in np.asarray(drawn.query_x).reshape(-1, 1, 16, 16))


def test_a_curriculum_chooses_among_the_classes_that_are_not_kept_back():
    tasks = GLYPHS.tasks(3, 1, 2, jitter=mltk.data.Jitter())
    rest, back = kept_back(mltk.task_analysis.curricula.HardMining(tasks))
    assert isinstance(rest, mltk.task_analysis.curricula.HardMining)
    assert not set(rest.tasks.class_names) & set(back.class_names)
    assert (back.jitter, back.rotations) == (None, False)


def test_sources_of_a_mixture_keep_classes_back_each_and_others_must_be_given():
    tasks = GLYPHS.tasks(3, 1, 2)
    rest, back = kept_back(mltk.data.Mixture((tasks, tasks), weights=(1.0, 2.0)))
    assert (rest.weights, back.weights) == ((1.0, 2.0),) * 2
    for one, other in zip(rest.sources, back.sources, strict=True):
        assert not set(one.class_names) & set(other.class_names)

    class Own:
        """Says of which classes its tasks are, and nothing else."""

        def sample(self, n_tasks, rng, backend):
            return tasks.sample(n_tasks, rng, backend)

    with pytest.raises(SettingError, match="tasks is Own, of whose classes none can be kept back"):
        kept_back(Own())
    toolkit = mltk.MetaLearningToolkit(learners(), backend=NUMPY, features=())
    with pytest.raises(SettingError, match="validation has 40 of the classes of tasks, or what"):
        toolkit.train(tasks, steps=1, validation=GLYPHS.tasks(3, 1, 2))
    other = GLYPHS.held_out().tasks(3, 1, 2)
    toolkit.train(tasks, steps=1, validation=other, episodes=20, progress=False)
    assert toolkit.compare(episodes=20)["ridge"].values.size == 20


def test_sources_of_a_mixture_that_share_classes_cannot_keep_them_back():
    few, many = GLYPHS.tasks(3, 1, 2), mltk.data.Glyphs(12, 5, 6, image_size=16).tasks(3, 1, 2)
    toolkit = mltk.MetaLearningToolkit(learners(), backend=NUMPY, features=())
    with pytest.raises(SettingError, match="validation is 3; expected an object with sample"):
        toolkit.train(few, steps=1, validation=3)
    for tasks, given in (
        (mltk.data.Mixture((few, many)), {}),
        (few, {"validation": mltk.data.Mixture((many, few))}),
        (mltk.data.Mixture((few, few)), {"validation": few}),
    ):
        with pytest.raises(SettingError, match="of the classes of tasks, or what is kept back of one source"):
            toolkit.train(tasks, steps=1, episodes=20, **given)


def test_what_was_decided_before_a_training_went_on_is_not_used_after_it(tmp_path):
    ridge = {"ridge": mltk.RidgeRegression(mltk.models.mlp([3, 4]))}

    class Broken:
        """Tasks that cannot be had."""

        def sample(self, n_tasks, rng, backend):
            if n_tasks > 1:
                raise OSError("the disk is asleep")
            return BLOBS.sample(n_tasks, rng, backend)

    task = BLOBS.sample(1, 0, NUMPY)
    toolkit = mltk.MetaLearningToolkit(ridge, backend=NUMPY, features=(), folder=tmp_path)
    toolkit.train(BLOBS, steps=2, episodes=20, progress=False)
    with pytest.raises(OSError, match="asleep"):
        toolkit.train(BLOBS, steps=4, episodes=20, validation=Broken(), progress=False)
    with pytest.raises(SettingError, match="nothing is decided yet"):
        toolkit.select(task.support_x, task.support_y, task.query_x)
    with pytest.raises(RunError, match="ridge has 4 steps, but what is decided is by 2"):
        mltk.MetaLearningToolkit.load(tmp_path)
    toolkit.train(BLOBS, steps=4, episodes=20, progress=False)
    assert mltk.MetaLearningToolkit.load(tmp_path).decisions.best == "ridge"


def test_families_without_end_are_their_own_unseen_tasks():
    assert kept_back(BLOBS) == (BLOBS, BLOBS)


def test_a_folder_is_loaded_as_it_was(trained):
    loaded = mltk.MetaLearningToolkit.load(trained.folder)
    episode = unseen()
    sets = (episode.support_x, episode.support_y, episode.query_x)
    before, after = (each.predict(*sets, compute=3) for each in (trained, loaded))
    assert before.learner == after.learner
    for name in ("outputs", "failure_risk", "passes"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    np.testing.assert_array_equal(loaded.decisions.evidence.halves, trained.decisions.evidence.halves)
    np.testing.assert_array_equal(
        loaded.compare(episodes=20)["ridge"].values, trained.compare(episodes=20)["ridge"].values
    )


def test_training_again_in_a_folder_goes_on(trained, tmp_path):
    how = {"backend": NUMPY, "folder": tmp_path / "toolkit", "features": ()}
    blobs = {"ridge": mltk.RidgeRegression(mltk.models.mlp([3, 4]))}
    whole = mltk.MetaLearningToolkit(blobs, backend=NUMPY, features=()).train(BLOBS, steps=6, episodes=20)
    mltk.MetaLearningToolkit(blobs, **how).train(BLOBS, steps=3, episodes=20)
    again = mltk.MetaLearningToolkit(blobs, **how).train(BLOBS, steps=6, episodes=20)
    for one, other in zip(
        mltk.tree.leaves(whole["ridge"].meta_params),
        mltk.tree.leaves(again["ridge"].meta_params),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


class OwnRidge(mltk.RidgeRegression):
    """A learner that is none of mltk's."""


def test_learners_of_ones_own_are_asked_for_by_the_argument_that_takes_them(tmp_path):
    learners = {"mine": OwnRidge(mltk.models.mlp([3, 4]))}
    how = {"backend": NUMPY, "folder": tmp_path, "features": ()}
    mltk.MetaLearningToolkit(learners, **how).train(BLOBS, steps=1, episodes=20)
    with pytest.raises(RunError, match=r"mine: .*OwnRidge.*learners=\{'mine': \.\.\.\}") as raised:
        mltk.MetaLearningToolkit.load(tmp_path)
    assert "algorithm=" not in str(raised.value)
    assert mltk.MetaLearningToolkit.load(tmp_path, learners=learners).learners == learners


def test_the_same_training_again_changes_nothing_also_of_learners_by_name(tmp_path):
    tasks = GLYPHS.tasks(3, 1, 2)
    how = {"steps": 2, "meta_batch": 1, "episodes": 20, "progress": False}
    toolkit = mltk.MetaLearningToolkit(["prototypical"], backend=NUMPY, folder=tmp_path, features=())
    before = toolkit.train(tasks, **how)
    for again in (toolkit, mltk.MetaLearningToolkit.load(tmp_path)):
        after = again.train(tasks, **how)["prototypical"]
        for one, other in zip(
            mltk.tree.leaves(before["prototypical"].meta_params),
            mltk.tree.leaves(after.meta_params),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)


def test_records_tell_a_toolkit_that_was_trained_further_from_what_it_was(tmp_path):
    ridge = {"ridge": mltk.RidgeRegression(mltk.models.mlp([3, 4]))}
    how = {"backend": NUMPY, "features": (), "folder": tmp_path / "f", "records": tmp_path / "records.sqlite"}
    means = []
    for steps in (2, 60):
        with mltk.MetaLearningToolkit(ridge, **how) as toolkit:
            toolkit.train(BLOBS, steps=steps, episodes=20, progress=False)
            means.append(toolkit.decisions.evidence.outcomes.mean())
            rows = toolkit.records.sql(
                "SELECT run, avg(outcome) FROM records WHERE metric = 'accuracy' GROUP BY run"
            )
    assert sorted(mean for _, mean in rows) == pytest.approx(sorted(means))


def test_what_is_switched_off_is_left_out():
    toolkit = mltk.MetaLearningToolkit(["ridge", "prototypical"], backend=NUMPY, features=())
    toolkit.train(BLOBS, steps=4, episodes=20, progress=False)
    assert (toolkit.decisions.selector, toolkit.decisions.failure) == (None, None)
    assert not toolkit.decisions.evidence.known  # nothing was measured that nothing is decided by
    episode = BLOBS.sample(2, 0, NUMPY)
    answer = toolkit.predict(episode.support_x, episode.support_y, episode.query_x, compute=8)
    assert answer.failure_risk is None
    assert set(answer.learner) == {toolkit.decisions.best}
    assert (answer.passes == 1).all()


def test_tasks_start_from_what_similar_ones_have_learned():
    tasks = mltk.data.Sinusoid(shots=10, queries=10)
    toolkit = mltk.MetaLearningToolkit(["ridge", "maml"], backend=NUMPY, features=())
    toolkit.train(tasks, steps=60, episodes=20, progress=False)
    warm = toolkit.transfer(tasks)
    learner, params = toolkit.entries["maml"]
    assert warm.learner is learner
    with pytest.raises(SettingError, match="learner is 'mamml'; expected one of ridge, maml"):
        toolkit.transfer(tasks, learner="mamml")
    cold = mltk.evaluate(learner, params, tasks, episodes=60)
    assert mltk.evaluate(warm, params, tasks, episodes=60).mean < cold.mean
    only = mltk.MetaLearningToolkit(["ridge"], backend=NUMPY, features=())
    only.train(tasks, steps=2, episodes=20, progress=False)
    with pytest.raises(SettingError, match="ridge adapt no parameters that others could start from"):
        only.transfer(tasks)


def test_trainings_are_watched_and_recover_where_that_is_switched_on():
    class Failing:
        """Fails twice, and then draws."""

        def __init__(self):
            self.failures = 2

        def sample(self, n_tasks, rng, backend):
            if self.failures and backend.name == "numpy" and n_tasks == 4:
                self.failures -= 1
                raise OSError("the disk is asleep")
            return BLOBS.sample(n_tasks, rng, backend)

    ridge = {"ridge": mltk.RidgeRegression(mltk.models.mlp([3, 4]))}
    with pytest.raises(OSError, match="asleep"):
        mltk.MetaLearningToolkit(ridge, backend=NUMPY, features=()).train(Failing(), steps=3, episodes=20)
    toolkit = mltk.MetaLearningToolkit(ridge, backend=NUMPY, features=["recovery", "monitor"])
    runs = toolkit.train(Failing(), steps=3, episodes=20)
    plain = mltk.train(ridge["ridge"], BLOBS, backend=NUMPY, steps=3)
    for one, other in zip(
        mltk.tree.leaves(runs["ridge"].meta_params), mltk.tree.leaves(plain.meta_params), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert runs["ridge"].events
    assert [line["step"] for line in toolkit.monitors["ridge"].history][:1] == [1]


def test_regression_is_answered_in_values():
    tasks = mltk.data.Sinusoid(shots=5, queries=5)
    toolkit = mltk.MetaLearningToolkit(["maml", "ridge"], backend=NUMPY)
    toolkit.train(tasks, steps=4, episodes=60, progress=False)
    episode = tasks.sample(3, 0, NUMPY)
    answer = toolkit.predict(episode.support_x, episode.support_y, episode.query_x)
    assert (answer.labels, answer.probabilities) == (None, None)
    for task, name in enumerate(answer.learner):
        learner, params = toolkit.entries[name]
        values = learner.predict(learner.adapt(params, episode.support_x, episode.support_y), episode.query_x)
        np.testing.assert_allclose(answer.outputs[task], values[task], rtol=1e-6)
    means = toolkit.decisions.evidence.outcomes.mean(axis=1)
    assert toolkit.decisions.best == toolkit.decisions.evidence.learners[int(np.argmin(means))]


@pytest.mark.parametrize(
    ("learners", "settings", "message"),
    [
        ("ridge", {}, "learners is 'ridge'; expected names"),
        ([], {}, r"learners is \[\]; expected at least one"),
        (["ridge", "ridge"], {}, "expected at least one, and different names"),
        (["rigde"], {}, "is 'rigde'; expected one of .*did you mean 'ridge'"),
        ({"a/b": "ridge"}, {}, "has the name 'a/b'; expected texts that can name folders"),
        ({"a from memory": "maml"}, {}, "expected none that ends with ' from memory'"),
        (
            {"a": type("Half", (), {"value_and_grad": len})()},
            {},
            r"learners\['a'\] is .*expected an object with init",
        ),
        ({"a": 3}, {}, r"learners\['a'\] is 3; expected an object with value_and_grad"),
        (
            ["ridge"],
            {"features": ["selecting"]},
            "is 'selecting'; expected one of .*did you mean 'selection'",
        ),
        (["ridge"], {"features": "selection"}, "features is 'selection'; expected several of"),
        (["ridge"], {"features": None}, "features is None; expected several of"),
        (["ridge"], {"seed": -1}, "seed is -1"),
        (["ridge"], {"threshold": "high"}, "threshold is 'high'; expected a finite number"),
        (["ridge"], {"folder": 3}, "folder is 3; expected the path"),
        (["ridge"], {"backend": "numpy"}, "backend is 'numpy'"),
    ],
)
def test_settings_are_checked_at_once(learners, settings, message):
    with pytest.raises(SettingError, match=message):
        mltk.MetaLearningToolkit(learners, **{"backend": NUMPY} | settings)


def test_what_comes_too_early_says_what_is_missing(trained):
    toolkit = mltk.MetaLearningToolkit(["ridge"], backend=NUMPY, features=())
    episode = unseen()
    sets = (episode.support_x, episode.support_y, episode.query_x)
    for early in (
        lambda: toolkit.predict(*sets),
        lambda: toolkit.compare(),
        lambda: toolkit.adapt(*sets[:2]),
        lambda: toolkit.decisions,
    ):
        with pytest.raises(
            SettingError, match=r"expected (a call of train\(tasks, steps=…\) before|an object with sample)"
        ):
            early()
    with pytest.raises(SettingError, match="compute is 0"):
        trained.predict(*sets, compute=0)
    with pytest.raises(
        SettingError, match="learner is 'maml'; expected one of prototypical, ridge, matching"
    ):
        trained.adapt(*sets[:2], learner="maml")
    with pytest.raises(ArrayError, match="support_x"):
        trained.predict([[1.0]], *sets[1:])
    with pytest.raises(ShapeError, match="not empty"):
        trained.predict(*(each[:0] for each in sets))
    with pytest.raises(SettingError, match="episodes is 3; expected an integer of at least 20"):
        trained.decide_by(BLOBS, episodes=3)
    blind = {"blind": mltk.algorithms.Prototypical(mltk.models.Sequential([]))}
    for own, tasks, message in (
        (blind, BLOBS, "blind has no meta-parameters"),
        (["ridge"], mltk.data.Navigation(), "tasks gives NavigationTasks; expected tasks of examples"),
        (["ridge", "prototypical"], mltk.data.Sinusoid(3, 3), "prototypical is for classification"),
    ):
        early = mltk.MetaLearningToolkit(own, backend=NUMPY, features=())
        with pytest.raises(SettingError, match=message):
            early.train(tasks, steps=1)
        assert not list(early.folder.iterdir())  # before anything is trained
    with pytest.raises(SettingError, match=r"too few classes to keep some back .*expected validation=…"):
        toolkit.train(mltk.data.Glyphs(2, 4, 4, image_size=16).tasks(4, 1, 1), steps=1)


def test_a_folder_that_is_none_or_damaged_is_refused(trained, tmp_path):
    with pytest.raises(RunError, match=r"toolkit\.json"):
        mltk.MetaLearningToolkit.load(tmp_path)
    told = json.loads((trained.folder / "toolkit.json").read_text())
    changed = [told | {"learners": {"ridge": None}}, told | {"settings": told["settings"] | {"features": 5}}]
    changed.append(told | {"evidence": told["evidence"] | {"outcomes": [[None] * 60] * 3}})
    for text in ("{", "[]", "{}", '{"learners": 3}', *map(json.dumps, changed)):
        (tmp_path / "toolkit.json").write_text(text)
        with pytest.raises(RunError, match=r"toolkit\.json"):
            mltk.MetaLearningToolkit.load(tmp_path)


def test_a_missing_library_is_said_before_anything_is_trained(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    with pytest.raises(MissingLibraryError, match=r'pip install "scikit-learn>='):
        mltk.MetaLearningToolkit(["ridge"], backend=NUMPY)
    mltk.MetaLearningToolkit(["ridge"], backend=NUMPY, features=["scaling"])
