"""Runs of which a file is not what it was: refused by name, before a layer of any size is made."""

import shutil

import numpy as np
import pytest

import mltk
from mltk.errors import BackendError, RunError, SettingError
from mltk.training.run_folder import RunFolder


def train(folder, **settings):
    learner = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse", inner_steps=1, learn_lr="tensor")
    settings = {"steps": 3, "log_every": 1, "checkpoint_every": 1} | settings
    tasks = mltk.data.Sinusoid(shots=2, queries=2)
    return mltk.train(learner, tasks, backend=mltk.backend("numpy"), out=folder, **settings)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(folder)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def change_config(run, *pairs):
    text = run.config_path.read_text()
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    run.config_path.write_text(text)


def change_checkpoint(run, **changes):
    with np.load(run.checkpoint_path) as arrays:
        np.savez(run.checkpoint_path, **dict(arrays) | changes)


@pytest.mark.parametrize("size", ["200_000", "5", "9_000_000_000_000"])
def test_a_layer_of_another_size_is_refused_before_it_is_made(run, size, monkeypatch):
    change_config(run, ("_features = 4", f"_features = {size}"))
    monkeypatch.setattr(mltk.algorithms.MAML, "init", None)  # which would make it
    with pytest.raises(RunError, match=r"checkpoint\.npz: '.*' has shape .*; expected"):
        mltk.load_run(run.path)


@pytest.mark.parametrize(
    "pair",
    [
        ("seed = 0", 'seed = "0"'),
        ("seed = 0", "seed = -1"),
        ("seed = 0", "seat = 0"),
        ("[algorithm]", "[algorhythm]"),
        ("inner_steps = 1", "inner_steps = 1.5"),
        ('name = "numpy"', 'nome = "numpy"'),
        ('device = "cpu"', 'drive = "cpu"'),
        ("mltk.algorithms.MAML", "mltk.algorithms.os"),
        ("mltk.algorithms.MAML", "mltk.data.Sinusoid"),
    ],
    ids=lambda pair: f"{pair[0]} to {pair[1]}",
)
def test_a_configuration_of_no_run_is_refused_by_name(run, pair):
    change_config(run, pair)
    with pytest.raises(RunError, match=r"config\.toml"):
        mltk.load_run(run.path)


@pytest.mark.parametrize(
    ("pair", "error"),
    [
        (('name = "numpy"', 'name = "numpyy"'), BackendError),
        (('device = "cpu"', 'device = "moon"'), SettingError),
        (('dtype = "float32"', 'dtype = "float12"'), SettingError),
    ],
)
def test_a_backend_that_is_not_here_is_said_to_be_the_configurations(run, pair, error):
    change_config(run, pair)
    with pytest.raises(error, match=r"config\.toml names a backend"):
        mltk.load_run(run.path)


def test_parameters_that_are_no_real_numbers_are_refused(run):
    mltk.load_run(run.path)
    (name, leaf) = next(iter(run.read_checkpoint().params.items()))
    for other in (leaf.astype(np.int64), np.ones(leaf.shape, bool)):
        change_checkpoint(run, **{f"params.{name}": other})
        with pytest.raises(RunError, match=r"checkpoint\.npz.*(expected float32|expected finite numbers)"):
            mltk.load_run(run.path)
    change_checkpoint(run, **{f"params.{name}": leaf.astype(np.float64)})  # to be used in another precision
    mltk.load_run(run.path)


@pytest.mark.parametrize("number", [0, 2])
def test_a_checkpoint_of_another_format_is_refused(run, number):
    change_checkpoint(run, format=np.asarray(number))
    for use in (mltk.load_run, lambda path: train(path, steps=5, resume=True)):
        with pytest.raises(RunError, match=r"checkpoint\.npz.*its format is not 1"):
            use(run.path)


def test_a_step_beyond_all_lines_is_damage_and_no_list(run, monkeypatch):
    change_checkpoint(run, step=np.asarray(10**15))
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged: it lacks steps"):
        train(run.path, resume=True, steps=10**16)


@pytest.mark.parametrize("name", ["1.running_mean", "0.weight"])
@pytest.mark.parametrize("leaf", [np.ones(5, np.float32), np.ones(4, np.int64)], ids=["shape", "dtype"])
def test_statistics_that_do_not_fit_the_parameters_are_refused(name, leaf, tmp_path):
    layers = (mltk.ops.Linear(1, 4), mltk.ops.BatchNorm(4, spatial_axes=0, statistics="population"))
    model = mltk.models.Sequential((*layers, mltk.ops.Linear(4, 1)))
    mltk.train(
        mltk.algorithms.MAML(model, "mse", inner_steps=1),
        mltk.data.Sinusoid(shots=2, queries=2),
        backend=mltk.backend("numpy"),
        steps=2,
        out=tmp_path,
    )
    mltk.load_run(tmp_path)
    change_checkpoint(RunFolder(tmp_path), **{f"calibrated.{name}": leaf})
    with pytest.raises(RunError, match=rf"checkpoint\.npz is damaged: '{name}' is .*; expected float32"):
        mltk.load_run(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 1_000_000, "RecursionError"),
        ("a." * 500_000 + "b = 1", "tables are nested too deeply"),
        ("a = [" + "0, " * 300_000 + "." * 64 + "]", "tables are nested too deeply"),
    ],
)
def test_a_configuration_of_the_largest_size_is_looked_through_once(run, text, message):
    run.config_path.write_text(text)
    with pytest.raises(RunError, match=rf"config\.toml is damaged: {message}"):
        run.read_config()


def test_an_optimiser_that_took_less_than_no_steps_is_damage(run):
    change_checkpoint(run, **{"optimizer.step": np.asarray(-2)})
    with pytest.raises(RunError, match=r"checkpoint\.npz: 'step' is -2; expected a number of steps"):
        train(run.path, steps=5, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer.moments.other": np.zeros(3, np.float32)}, "has an unknown array 'moments.other'"),
        ({"optimizer.moments.mean": None}, "lacks 'moments.mean'"),
        ({"optimizer.moments.mean": np.zeros(17)}, "'moments.mean' is float64; expected float32"),
        ({"optimizer.step": np.asarray(3.0)}, "'step' is float64; expected int64"),
        ({"params.other": np.zeros(3, np.float32)}, "has an unknown array 'other'"),
        ({"params.0.bias": None}, "lacks '0.bias'"),
        ({"params.0.bias": np.zeros(4)}, "'0.bias' is float64; expected float32"),
    ],
)
def test_training_goes_on_from_arrays_of_its_names_and_dtypes_alone(run, changes, message):
    with np.load(run.checkpoint_path) as arrays:
        found = dict(arrays)
    assert (set(changes) <= set(found)) == ("unknown" not in message)
    found = {name: leaf for name, leaf in (found | changes).items() if leaf is not None}
    np.savez(run.checkpoint_path, **found)
    with pytest.raises(RunError, match=rf"checkpoint\.npz:? {message}"):
        train(run.path, steps=5, resume=True)


@pytest.mark.parametrize("key", ["steps", "log_every", "meta_batch", "seed"])
def test_a_configuration_without_a_key_is_refused(run, key):
    run.write_config({name: value for name, value in run.read_config().items() if name != key})
    with pytest.raises(RunError):
        train(run.path, steps=5, resume=True)


def test_a_run_that_is_done_is_left_as_it_is(run):
    def state():
        files = [path for path in run.path.iterdir() if path.suffix != ".lock"]
        return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in files}

    before = state()
    train(run.path, resume=True)
    assert state() == before
