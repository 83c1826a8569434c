"""Training: the same trajectory on every backend, whether interrupted or not, and honest failures."""

import json
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from assertions import same
from run_contents import assert_same_run

import mltk
from mltk import optim, tree
from mltk.errors import DivergedError, NotFiniteError, RunError, SettingError
from mltk.training.run_folder import RunFolder
from mltk.training.runs import load_run

MODEL = mltk.models.mlp([1, 8, 8, 1])
LEARNER = mltk.algorithms.MAML(MODEL, "mse", inner_steps=2)
RATES = mltk.algorithms.MAML(MODEL, "mse", inner_lr=(0.001, 0.01), learn_lr="scalar", lr_per_step=True)
TASKS = mltk.data.Sinusoid(shots=5, queries=5)
OPTIMIZER = optim.chain(optim.ClipByGlobalNorm(1.0), optim.AdamW(optim.Cosine(0.01, 60, warmup=5)))
PACE = {"log_every": 6, "checkpoint_every": 4}


class StopError(Exception):
    """What interrupts a training in these tests."""


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Torch's threads wait for each other in busy loops, which is slow where other tests run beside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def interrupt(learner, out, *, backend, after, steps=60, monkeypatch, **options):
    """Train until ``after`` steps are done, as if the process had been killed there."""
    left = [None, *range(after)]
    sample = mltk.data.Sinusoid.sample

    def patched(self, *arguments):
        if left.pop() is None:
            raise StopError
        return sample(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(mltk.data.Sinusoid, "sample", patched)
        with pytest.raises(StopError):
            mltk.train(learner, TASKS, backend=backend, steps=steps, out=out, resume=True, **options)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("learner", [LEARNER, RATES], ids=["fixed", "learned"])
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(
    backend, dtype, learner, tmp_path, monkeypatch
):
    engine = {"engine": "analytic"} if backend == "torch" else {}
    options = {"backend": mltk.backend(backend, dtype=dtype, **engine), "optimizer": OPTIMIZER, **PACE}
    straight = mltk.train(learner, TASKS, steps=60, out=tmp_path / "straight", **options)
    for after in (3, 5, 11, 18, 0):
        interrupt(learner, tmp_path / "resumed", after=after, monkeypatch=monkeypatch, **options)
    resumed = mltk.train(learner, TASKS, steps=60, out=tmp_path / "resumed", resume=True, **options)
    assert_same_run(tmp_path / "resumed", tmp_path / "straight")
    same(resumed.meta_params, straight.meta_params)
    assert [line["loss"] for line in resumed.history] == [line["loss"] for line in straight.history]
    assert (tmp_path / "resumed" / "curves.svg").exists()


@pytest.mark.parametrize("first", [24, 31])
def test_a_finished_run_may_be_extended(first, tmp_path):
    options = {"backend": mltk.backend("numpy"), "optimizer": OPTIMIZER, **PACE}
    mltk.train(LEARNER, TASKS, steps=60, out=tmp_path / "straight", **options)
    mltk.train(LEARNER, TASKS, steps=first, out=tmp_path / "extended", **options)
    curve = (tmp_path / "extended" / "curves.svg").read_bytes()
    mltk.train(LEARNER, TASKS, steps=60, out=tmp_path / "extended", resume=True, **options)
    assert_same_run(tmp_path / "extended", tmp_path / "straight")
    assert (tmp_path / "extended" / "curves.svg").read_bytes() != curve


def test_a_kill_while_a_run_is_extended_leaves_one_that_resumes(tmp_path, monkeypatch):
    options = {"backend": mltk.backend("numpy"), "log_every": 4, "out": tmp_path, "resume": True}
    mltk.train(LEARNER, TASKS, steps=6, **options)

    def killed(*_):
        raise KeyboardInterrupt

    for write in ("write_config", "write_metrics"):
        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, write, killed)
            with pytest.raises(KeyboardInterrupt):
                mltk.train(LEARNER, TASKS, steps=12, **options)
        # What stands in the folder is a run of as many steps as its configuration says.
        steps = RunFolder(tmp_path).read_config()["steps"]
        assert mltk.train(LEARNER, TASKS, steps=steps, **options).steps == steps
        assert steps == (6 if write == "write_config" else 12)


def test_resuming_keeps_the_pace_of_the_run_unless_told_otherwise(tmp_path):
    options = {"backend": mltk.backend("numpy"), "out": tmp_path, "resume": True}
    mltk.train(LEARNER, TASKS, steps=6, log_every=3, **options)
    run = mltk.train(LEARNER, TASKS, steps=12, **options)
    assert [line["step"] for line in run.history] == [3, 6, 9, 12]
    with pytest.raises(RunError, match="log_every: 3 before, 4 now"):
        mltk.train(LEARNER, TASKS, steps=12, log_every=4, **options)


def test_a_finished_run_is_returned_as_it_is(tmp_path):
    options = {"backend": mltk.backend("numpy"), "steps": 20, "out": tmp_path}
    run = mltk.train(LEARNER, TASKS, **options)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again = mltk.train(LEARNER, TASKS, resume=True, **options)
    assert (again.history, again.steps, again.folder) == (run.history, 20, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_backends_follow_one_trajectory():
    """200 meta-iterations in float64: final parameters agree to 1e-8."""
    learner = mltk.algorithms.MAML(mltk.models.mlp([1, 40, 40, 1]), "mse", inner_steps=5)
    runs = {
        (name, engine): mltk.train(
            learner, TASKS, backend=mltk.backend(name, dtype="float64", engine=engine), steps=200, seed=3
        )
        for name, engine in [("numpy", "analytic"), ("torch", "analytic"), ("torch", "autograd")]
    }
    expected = tree.flatten(runs.pop(("numpy", "analytic")).meta_params)
    start = tree.flatten(learner.init(mltk.backend("numpy", dtype="float64"), 3))
    for run in runs.values():
        for name, leaf in tree.flatten(run.meta_params).items():
            np.testing.assert_allclose(leaf.numpy(), expected[name], rtol=0, atol=1e-8)
            assert np.abs(expected[name] - start[name]).max() > 1e-2


def test_a_step_is_a_step_of_the_optimiser_along_the_meta_gradient(backend64):
    run = mltk.train(
        LEARNER, TASKS, backend=backend64, steps=1, optimizer=optim.SGD(0.1), seed=5, meta_batch=3
    )
    start = LEARNER.init(backend64, 5)
    rng = np.random.default_rng(np.random.SeedSequence(5, spawn_key=(0,)))
    value, grads = LEARNER.value_and_grad(start, TASKS.sample(3, rng, backend64))
    assert run.history[0]["loss"] == pytest.approx(float(value))
    for name, leaf in tree.flatten(start).items():
        expected = leaf - 0.1 * tree.flatten(grads)[name]
        np.testing.assert_allclose(tree.flatten(run.meta_params)[name], expected, rtol=1e-12)


def test_the_logged_loss_is_the_mean_since_the_line_before():
    each = mltk.train(LEARNER, TASKS, backend=mltk.backend("numpy"), steps=10, log_every=1).history
    some = mltk.train(LEARNER, TASKS, backend=mltk.backend("numpy"), steps=10, log_every=4).history
    losses = [line["loss"] for line in each]
    assert [line["step"] for line in some] == [4, 8, 10]
    expected = [np.mean(losses[:4]), np.mean(losses[4:8]), np.mean(losses[8:])]
    assert [line["loss"] for line in some] == pytest.approx(expected)


def test_progress_is_called_at_the_start_and_with_each_line():
    calls = []
    run = mltk.train(
        LEARNER,
        TASKS,
        backend=mltk.backend("numpy"),
        steps=10,
        log_every=4,
        progress=lambda *arguments: calls.append(arguments),
    )
    assert calls == [(0, 10, None), *((line["step"], 10, line["loss"]) for line in run.history)]


def test_a_run_is_read_back_with_all_that_made_it(tmp_path):
    run = mltk.train(
        RATES, TASKS, backend=mltk.backend("torch", dtype="float64", engine="analytic"), steps=9, out=tmp_path
    )
    saved = load_run(tmp_path)
    assert (saved.algorithm, saved.tasks) == (RATES, TASKS)
    assert (saved.backend.name, saved.backend.dtype, saved.backend.engine.name) == (
        "torch",
        "float64",
        "analytic",
    )
    assert (saved.run.history, saved.run.steps) == (run.history, 9)
    elsewhere = load_run(tmp_path, backend=mltk.backend("numpy"))
    for name, leaf in tree.flatten(run.meta_params).items():
        assert torch.equal(tree.flatten(saved.run.meta_params)[name], leaf)
        np.testing.assert_array_equal(
            tree.flatten(elsewhere.run.meta_params)[name], leaf.numpy().astype("float32"), strict=True
        )


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    options = {"backend": mltk.backend("numpy"), "steps": 5, "out": tmp_path}
    mltk.train(LEARNER, TASKS, **options)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RunError, match="already holds a run"):
        mltk.train(LEARNER, TASKS, **options)
    with pytest.raises(RunError, match=r"algorithm\.inner_lr: 0\.01 before, 0\.1 now"):
        mltk.train(replace(LEARNER, inner_lr=0.1), TASKS, resume=True, **options)
    with pytest.raises(RunError, match="seed: 0 before, 1 now"):
        mltk.train(LEARNER, TASKS, resume=True, seed=1, **options)
    with pytest.raises(RunError, match="steps can only grow"):
        mltk.train(LEARNER, TASKS, resume=True, **{**options, "steps": 4})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("config.toml", "remove"),
        ("config.toml", b"title = 'not a run'\n"),
        ("metrics.jsonl", "remove"),
        ("metrics.jsonl", b""),
        ("checkpoint.npz", b"PK"),
    ],
)
def test_resuming_from_damaged_files_names_them(tmp_path, name, damage):
    options = {"backend": mltk.backend("numpy"), "out": tmp_path, "resume": True}
    mltk.train(LEARNER, TASKS, steps=5, **options)
    if damage == "remove":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(damage)
    with pytest.raises(RunError, match=name):
        mltk.train(LEARNER, TASKS, steps=8, **options)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    options = {"backend": mltk.backend("numpy"), "resume": True}
    for name, width in (("small", 3), ("large", 4)):
        learner = mltk.algorithms.MAML(mltk.models.mlp([1, width, 1]), "mse")
        mltk.train(learner, TASKS, steps=5, out=tmp_path / name, **options)
    shutil.copy(tmp_path / "small" / "checkpoint.npz", tmp_path / "large" / "checkpoint.npz")
    with pytest.raises(RunError, match=r"checkpoint\.npz.*expected \(.*4"):
        mltk.train(learner, TASKS, steps=8, out=tmp_path / "large", **options)


@dataclass(frozen=True)
class Mine:
    """A user's own learner: linear regression without adaptation, whose loss can be made to fail."""

    fail_at: float = np.inf
    poison: bool = False

    def init(self, backend, seed):
        return {"weight": backend.asarray(np.zeros((1, 1))), "count": backend.asarray(np.zeros(()))}

    def adapt(self, meta_params, support_x, support_y):
        return meta_params

    def predict(self, state, query_x):
        return query_x @ state["weight"]

    def value_and_grad(self, meta_params, episode):
        backend = episode.backend
        failing = float(meta_params["count"]) + 1 >= self.fail_at
        loss = backend.asarray(np.asarray(np.nan if failing and not self.poison else 1.0))
        gradient = np.full((1, 1), np.inf if failing and self.poison else 1.0)
        return loss, {"weight": backend.asarray(gradient), "count": backend.asarray(np.asarray(-1.0))}


def test_a_learner_of_the_users_own_is_trained_and_resumed(tmp_path):
    options = {"backend": mltk.backend("numpy"), "optimizer": optim.SGD(1.0), "out": tmp_path, "resume": True}
    mltk.train(Mine(), TASKS, steps=5, **options)
    run = mltk.train(Mine(), TASKS, steps=8, **options)
    assert run.meta_params["count"] == 8
    with pytest.raises(RunError, match=r"Mine\("):
        load_run(tmp_path)


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("poison", [False, True], ids=["loss", "parameters"])
def test_divergence_stops_with_the_last_good_checkpoint(name, poison, tmp_path):
    learner = Mine(fail_at=8, poison=poison)
    options = {"backend": mltk.backend(name), "optimizer": optim.SGD(1.0), "log_every": 3}
    with pytest.raises(DivergedError, match=r"at step 8.*no checkpoint"):
        mltk.train(learner, TASKS, steps=8, **options)
    with pytest.raises(DivergedError, match=r"at step 8.*step 6 in .*checkpoint\.npz"):
        mltk.train(learner, TASKS, steps=20, checkpoint_every=2, out=tmp_path, **options)
    if not poison:  # on the host, each step is checked
        with pytest.raises(DivergedError, match="at step 8"):
            mltk.train(learner, TASKS, steps=20, **{**options, "log_every": 20})
    with np.load(tmp_path / "checkpoint.npz") as arrays:
        assert arrays["step"] == 6
        assert np.isfinite(arrays["params.weight"]).all()
    assert [line["step"] for line in map(json.loads, (tmp_path / "metrics.jsonl").open())] == [3, 6]


def elsewhere():
    """NumPy as if it were a device that training must not wait for."""
    return replace(mltk.backend("numpy"), device="elsewhere")


class Watched(np.ndarray):
    """A loss that counts how often it, or what is computed from it, is fetched."""

    fetched = 0

    def __float__(self):
        Watched.fetched += 1
        return super().__float__()


@dataclass(frozen=True)
class OnDevice:
    """A learner whose loss is watched."""

    learner: mltk.algorithms.MAML

    def init(self, backend, seed):
        return self.learner.init(backend, seed)

    def value_and_grad(self, meta_params, episode):
        value, grads = self.learner.value_and_grad(meta_params, episode)
        return np.asarray(value).view(Watched), grads


def test_on_a_device_the_loss_is_fetched_where_it_is_logged():
    Watched.fetched = 0
    run = mltk.train(OnDevice(LEARNER), TASKS, backend=elsewhere(), steps=60, log_every=20)
    assert Watched.fetched == 3
    host = mltk.train(LEARNER, TASKS, backend=mltk.backend("numpy"), steps=60, log_every=20)
    assert [line["loss"] for line in run.history] == pytest.approx([line["loss"] for line in host.history])
    same(run.meta_params, host.meta_params)


def test_on_a_device_too_an_interrupted_run_ends_where_an_uninterrupted_one_does(tmp_path, monkeypatch):
    options = {"backend": elsewhere(), "optimizer": OPTIMIZER, **PACE}
    mltk.train(LEARNER, TASKS, steps=60, out=tmp_path / "straight", **options)
    for after in (5, 11, 18):
        interrupt(LEARNER, tmp_path / "resumed", after=after, monkeypatch=monkeypatch, **options)
    mltk.train(LEARNER, TASKS, steps=60, out=tmp_path / "resumed", resume=True, **options)
    assert_same_run(tmp_path / "resumed", tmp_path / "straight")


def test_on_a_device_divergence_is_met_at_the_next_line_or_checkpoint(tmp_path):
    options = {"backend": elsewhere(), "optimizer": optim.SGD(1.0), "steps": 40, "out": tmp_path}
    with pytest.raises(DivergedError, match=r"at step 9.*step 6 in"):
        mltk.train(Mine(fail_at=8), TASKS, log_every=20, checkpoint_every=3, **options)
    with pytest.raises(DivergedError, match=r"at step 10.*step 6 in"):
        mltk.train(Mine(fail_at=8), TASKS, log_every=20, checkpoint_every=5, resume=True, **options)


def test_settings_may_be_numpy_integers(tmp_path):
    options = {"steps": np.int64(4), "seed": np.int64(3), "meta_batch": np.int32(2), "log_every": np.int8(2)}
    run = mltk.train(LEARNER, TASKS, backend=mltk.backend("numpy"), out=tmp_path, **options)
    again = mltk.train(LEARNER, TASKS, backend=mltk.backend("numpy"), out=tmp_path, resume=True, **options)
    assert again.history == run.history


def test_validate_checks_each_episode():
    class Broken:
        def sample(self, n_tasks, rng, backend):
            episode = TASKS.sample(n_tasks, rng, backend)
            return replace(episode, query_x=episode.query_x * np.nan)

    with pytest.raises(NotFiniteError, match="query_x"):
        mltk.train(LEARNER, Broken(), backend=mltk.backend("numpy"), steps=1, validate=True)


@pytest.mark.parametrize(
    "option",
    [
        {"steps": 0},
        {"steps": 2.5},
        {"meta_batch": 0},
        {"seed": -1},
        {"log_every": 0},
        {"checkpoint_every": -1},
        {"resume": True},
        {"backend": "numpy"},
    ],
)
def test_settings_are_checked(option):
    with pytest.raises(SettingError, match=next(iter(option))):
        mltk.train(LEARNER, TASKS, **{"backend": mltk.backend("numpy"), "steps": 1, **option})
