"""A trained run is loaded and used: without its data, and with learners and tasks of the user's own."""

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from assertions import same
from mltk_backends.torch import ModuleModel
from PIL import Image
from torch import nn

import mltk
from mltk import tree
from mltk.errors import DataError, RunError, SettingError
from mltk.training.run_folder import RunFolder

NUMPY = mltk.backend("numpy")
SINUSOIDS = mltk.data.Sinusoid(shots=5, queries=5)
POPULATION = mltk.algorithms.Prototypical(mltk.models.conv4(1, 28, width=4, statistics="population"))


@pytest.fixture
def drawings(tmp_path):
    """A folder of images of four classes."""
    rng = np.random.default_rng(0)
    for name in "abcd":
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 255, (28, 28), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{number}.png")
    return tmp_path / "images"


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_a_trained_run_is_used_without_the_data_of_its_training(backend, drawings, tmp_path):
    tasks = mltk.data.ImageFolder(drawings, 28, channels=1).tasks(2, 1, 2)
    out = tmp_path / "run"
    run = mltk.train(POPULATION, tasks, backend=mltk.backend(backend), steps=3, out=out)
    drawings.rename(tmp_path / "elsewhere")
    saved = mltk.load_run(out)
    same(saved.run.meta_params, run.meta_params)
    assert any("running_var" in name for name in tree.flatten(saved.run.meta_params))
    glyphs = mltk.data.Glyphs().tasks(2, 1, 2)
    options = {"episodes": 4, "backend": saved.backend}
    found = mltk.evaluate(saved.algorithm, saved.run.meta_params, glyphs, **options)
    assert found.mean == mltk.evaluate(POPULATION, run.meta_params, glyphs, **options).mean
    with pytest.raises((DataError, RunError), match="images"):
        saved.tasks.sample(1, 0, saved.backend)


def test_statistics_are_those_of_the_parameters_that_they_stand_beside(tmp_path, monkeypatch):
    """A run that goes on is calibrated anew; until its next checkpoint that before stands, with its own."""
    tasks = mltk.data.Glyphs().tasks(2, 1, 2)
    options = {"backend": NUMPY, "log_every": 1, "checkpoint_every": 1}
    straight = mltk.train(POPULATION, tasks, steps=4, out=tmp_path / "straight", **options)
    first = mltk.train(POPULATION, tasks, steps=2, out=tmp_path / "grown", **options)
    grown = mltk.train(POPULATION, tasks, steps=4, out=tmp_path / "grown", resume=True, **options)
    same(grown.meta_params, straight.meta_params)
    same(mltk.load_run(tmp_path / "grown").run.meta_params, straight.meta_params)

    def stop(step, steps, loss):
        if step == 3:
            raise RuntimeError("stopped")

    mltk.train(POPULATION, tasks, steps=2, out=tmp_path / "cut", **options)
    options["checkpoint_every"] = 100
    with pytest.raises(RuntimeError, match="stopped"):
        mltk.train(POPULATION, tasks, steps=4, out=tmp_path / "cut", resume=True, progress=stop, **options)
    assert RunFolder(tmp_path / "cut").read_config()["steps"] == 4
    monkeypatch.setattr(type(tasks), "sample", None)
    same(mltk.load_run(tmp_path / "cut").run.meta_params, first.meta_params)


@dataclass(frozen=True)
class Mine:
    """A learner of the user's own."""

    rate: float = 0.1

    def init(self, backend, seed):
        return {"weight": backend.asarray(np.ones((1, 1)))}

    def adapt(self, meta_params, support_x, support_y):
        return meta_params

    def predict(self, state, query_x):
        return self.rate * query_x @ state["weight"]

    def value_and_grad(self, meta_params, episode):
        error = self.predict(meta_params, episode.query_x) - episode.query_y
        return (error**2).mean(), {"weight": (2 * self.rate * error * episode.query_x).mean().reshape(1, 1)}


class Shifted:
    """A task source of the user's own."""

    def __init__(self, shift=1.0):
        self.shift = np.asarray(shift)

    def sample(self, n_tasks, rng, backend):
        return SINUSOIDS.sample(n_tasks, rng, backend)


def test_a_run_of_a_learner_and_tasks_of_the_users_own_is_loaded_by_giving_them(tmp_path):
    run = mltk.train(Mine(), Shifted(), backend=NUMPY, steps=5, out=tmp_path)
    saved = mltk.load_run(tmp_path, algorithm=Mine(), tasks=Shifted())
    same(saved.run.meta_params, run.meta_params)
    assert saved.tasks.shift == 1.0
    with pytest.raises(RunError, match=r"algorithm=\.\.\."):
        mltk.load_run(tmp_path)
    with pytest.raises(RunError, match=r"(?s)other algorithm:\n.*rate: 0\.1 before, 0\.2 now"):
        mltk.load_run(tmp_path, algorithm=Mine(0.2), tasks=Shifted())
    with pytest.raises(RunError, match=r"(?s)other tasks:\n.*tasks\.shift: float64"):
        mltk.load_run(tmp_path, algorithm=Mine(), tasks=Shifted(2.0))
    alone = mltk.load_run(tmp_path, algorithm=Mine())
    same(alone.run.meta_params, run.meta_params)
    with pytest.raises(RunError, match=r"tasks=\.\.\."):
        alone.tasks  # noqa: B018


def wrapped(seed, activation=nn.Tanh):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(1, 6), activation(), nn.Linear(6, 1))
    net[0].requires_grad_(False)
    return mltk.algorithms.MAML(ModuleModel(net), "mse")


def test_a_run_of_a_wrapped_module_is_loaded_by_giving_it(tmp_path):
    run = mltk.train(wrapped(1), SINUSOIDS, backend=mltk.backend("torch"), steps=5, out=tmp_path)
    saved = mltk.load_run(tmp_path, algorithm=wrapped(1))
    same(saved.run.meta_params, run.meta_params)
    assert saved.tasks == SINUSOIDS
    for other in (wrapped(2), wrapped(1, nn.ReLU)):
        with pytest.raises(RunError, match=r"other algorithm:\n  algorithm\.model"):
            mltk.load_run(tmp_path, algorithm=other)


@pytest.mark.parametrize("tasks", [None, SINUSOIDS])
def test_a_loaded_run_can_be_pickled_before_and_after_its_tasks_are_made(tmp_path, tasks):
    learner = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")
    mltk.train(learner, SINUSOIDS, backend=NUMPY, steps=2, out=tmp_path)
    saved = mltk.load_run(tmp_path, tasks=tasks)
    for _ in range(2):
        again = pickle.loads(pickle.dumps(saved))
        same(again.run.meta_params, saved.run.meta_params)
        assert again.tasks == saved.tasks == SINUSOIDS


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"folder": 3}, "folder is 3"), ({"backend": "numpy"}, "^backend is 'numpy'; expected a backend")],
)
def test_an_argument_of_another_kind_is_not_blamed_on_the_run(tmp_path, wrong, message):
    mltk.train(Mine(), SINUSOIDS, backend=NUMPY, steps=1, out=tmp_path)
    with pytest.raises(SettingError, match=message):
        mltk.load_run(**{"folder": tmp_path, "algorithm": Mine()} | wrong)
    with pytest.raises(SettingError, match="out is 3; expected the path of a run folder"):
        mltk.train(Mine(), SINUSOIDS, backend=NUMPY, steps=1, out=3)
