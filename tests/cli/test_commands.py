"""The command `mltk`: what it accepts, writes, says and returns."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import mltk
from mltk.cli import app, choices
from mltk.training.runs import load_run

ALGORITHMS = ["maml", "fomaml", "meta-sgd", "anil", "boil", "reptile", "implicit-maml", "learned-optimizer"]
FAMILIES = ["sinusoid", "harmonic", "linear-regression", "blobs"]


def plain(text):
    """Text without colours, frames and line breaks."""
    return " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|[╭╮╰╯─│]", " ", text).split())


def settings_of(folder):
    import tomllib

    return tomllib.loads((Path(folder) / "config.toml").read_text())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_trains_on_every_family_and_is_evaluated(algorithm, family, run):
    result = run("train", algorithm, "--data", family, "--steps", 3, "--out", "here")
    assert (result.exit_code, result.exception) == (0, None), result.output
    files = {path.name for path in Path("here").iterdir() if not path.name.startswith(".")}
    regression = family != "blobs"
    assert files == {"config.toml", "metrics.jsonl", "checkpoint.npz", "curves.svg"} | (
        {"fits.svg"} if regression else set()
    )
    result = run("evaluate", "here", "--episodes", 30)
    assert result.exit_code == 0, result.output
    assert ("mse" if regression else "accuracy") in result.output
    assert "95 % interval over 30 tasks" in result.output


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("maml", {"type": "mltk.algorithms.MAML", "first_order": False}),
        ("fomaml", {"type": "mltk.algorithms.MAML", "first_order": True}),
        ("meta-sgd", {"learn_lr": "element", "inner_lr": [0.005, 0.1]}),
        ("anil", {"adapt_only": "head"}),
        ("boil", {"adapt_only": "body"}),
        ("reptile", {"type": "mltk.algorithms.Reptile"}),
        ("implicit-maml", {"type": "mltk.algorithms.ImplicitMAML"}),
        ("learned-optimizer", {"type": "mltk.algorithms.LearnedOptimizer", "inner_steps": 1, "lr": 0.01}),
    ],
)
def test_a_name_means_its_algorithm(algorithm, expected, run):
    assert run("train", algorithm, "--data", "sinusoid", "--steps", 1, "--out", "here").exit_code == 0
    found = settings_of("here")["algorithm"]
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ("scale", "Scale"),
        ("bias", "Bias"),
        ("momentum", "Momentum"),
        ("kronecker", "Kronecker"),
        ("meta-curvature", "MetaCurvature"),
        ("network", "Network"),
        ("clip", "Clip"),
    ],
)
def test_a_name_means_its_transform(transform, expected, run):
    words = ["--transform", transform, "--inner-lr", 0.03, "--inner-steps", 2, "--steps", 2, "--out", "here"]
    result = run("train", "learned-optimizer", "--data", "sinusoid", *words)
    assert result.exit_code == 0, result.output
    found = settings_of("here")["algorithm"]
    assert found["transform"]["type"] == f"mltk.optim.transforms.{expected}"
    assert (found["lr"], found["inner_steps"]) == (0.03, 2)


NEW = """
from dataclasses import dataclass
import mltk
@dataclass(frozen=True)
class SquareWaves:
    shots: int
    queries: int
    def sample(self, n_tasks, rng, backend):
        waves = mltk.data.Sinusoid(self.shots, self.queries).sample(n_tasks, rng, backend)
        sets = {name: (getattr(waves, name) > 0) * getattr(waves, name) for name in ("support_y", "query_y")}
        return mltk.Episode(waves.support_x, sets["support_y"], waves.query_x, sets["query_y"])
class PatientReptile(mltk.algorithms.Reptile):
    pass
for module, made in ((mltk.data, SquareWaves), (mltk.algorithms, PatientReptile)):
    setattr(module, made.__name__, made)
    module.__all__.append(made.__name__)
from mltk.cli import main
main()
"""


def test_what_is_added_to_the_public_tables_can_be_named(tmp_path):
    words = ["train", "patient-reptile", "--data", "square-waves", "--shots", "3", "--steps", "2"]
    done = subprocess.run(
        [sys.executable, "-c", NEW, *words, "--out", "here"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "SquareWaves(shots=3, queries=10)" in str(settings_of(tmp_path / "here")["tasks"])
    assert (tmp_path / "here" / "fits.svg").exists()


def test_every_dataset_learner_and_transform_has_a_name():
    apart = {"Arrays", "ImageDataset", "ImageTasks", "Jitter", "Pictures", "Prefetch", "TaskSource"}
    apart |= {"BrokenImageWarning", "SmallClassWarning", "data_home", "Chain", "GradientTransform", "chain"}
    apart |= {"ClassPart", "Mixture", "Retrying"}
    for module, table in (
        (mltk.data, choices.FAMILIES | choices.IMAGES),
        (mltk.algorithms, choices.ALGORITHMS),
        (mltk.optim.transforms, choices.TRANSFORMS),
    ):
        named = {getattr(made, "__name__", "") for made in table.values()}
        assert set(module.__all__) - apart <= named


@pytest.mark.parametrize("family", ["bandits", "navigation"])
def test_policies_are_trained_and_judged_before_and_after_adaptation(family, run):
    words = ["--shots", 3, "--meta-batch", 2, "--steps", 2, "--inner-lr", 0.02, "--inner-steps", 2]
    result = run("train", "stochastic-maml", "--data", family, *words, "--out", "here")
    assert (result.exit_code, result.exception) == (0, None), result.output
    assert Path("here/paths.svg").exists() == (family == "navigation")
    found = settings_of("here")
    assert found["tasks"]["trajectories"] == 3
    assert (found["algorithm"]["inner_lr"], found["algorithm"]["inner_steps"]) == (0.02, 2)
    result = run("evaluate", "here", "--episodes", 25)
    assert result.exit_code == 0, result.output
    saved = load_run("here")
    expected = mltk.evaluation.returns(saved.algorithm, saved.run.meta_params, saved.tasks, episodes=25)
    for name, part in zip(("before adaptation", "after adaptation", "gain"), expected, strict=True):
        assert f"{name}: {part}" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["maml", "--data", "navigation"], "maml does not learn on navigation"),
        (["stochastic-maml", "--data", "sinusoid"], "stochastic-maml does not learn on sinusoid"),
        (["stochastic-maml", "--data", "bandits", "--ways", "3"], "expected no --ways"),
        (["stochastic-maml", "--data", "navigation", "--at-least", "3"], "expected no --at-least"),
    ],
)
def test_policies_and_other_learners_do_not_mix(words, message, run):
    result = run("train", *words, "--steps", 1)
    assert result.exit_code != 0
    assert message in plain(result.output)


def test_a_transform_for_another_learner_is_refused(run):
    result = run("train", "maml", "--data", "sinusoid", "--transform", "scale", "--steps", 1)
    assert result.exit_code != 0
    assert "--transform is given, but the learner is maml" in plain(result.output)


def test_options_reach_the_training(run):
    options = {
        "dtype": "float64",
        "seed": 5,
        "meta-batch": 2,
        "ways": 3,
        "shots": 4,
        "queries": 6,
        "inner-lr": 0.25,
        "inner-steps": 2,
        "meta-lr": 0.01,
        "backend": "torch",
        "engine": "autograd",
        "device": "cpu",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    assert run("train", "maml", "--data", "blobs", "--steps", 2, "--out", "here", *words).exit_code == 0
    found = settings_of("here")
    assert (found["steps"], found["seed"], found["meta_batch"]) == (2, 5, 2)
    assert [found["tasks"][name] for name in ("ways", "shots", "queries")] == [3, 4, 6]
    assert [found["algorithm"][name] for name in ("inner_lr", "inner_steps")] == [0.25, 2]
    assert found["optimizer"]["learning_rate"] == 0.01
    assert found["backend"] == {"name": "torch", "device": "cpu", "dtype": "float64", "engine": "autograd"}


def test_training_is_that_of_the_library(run):
    assert run("train", "maml", "--data", "sinusoid", "--steps", 20, "--seed", 4, "--out", "a").exit_code == 0
    saved = load_run("a")
    expected = mltk.train(
        saved.algorithm, saved.tasks, backend=mltk.backend("numpy"), steps=20, meta_batch=4, seed=4
    )
    for name, leaf in mltk.tree.flatten(expected.meta_params).items():
        np.testing.assert_array_equal(mltk.tree.flatten(saved.run.meta_params)[name], leaf)
    evaluation = mltk.evaluate(saved.algorithm, expected.meta_params, saved.tasks, episodes=50, seed=9)
    words = ("evaluate", "a", "--episodes", 50, "--seed", 9)
    assert str(evaluation) in run(*words).output
    assert run(*words, "--workers", 2).output == run(*words).output


@pytest.mark.parametrize(
    ("words", "choices"),
    [
        (["train", "mamal", "--data", "sinusoid"], ALGORITHMS),
        (["train", "maml", "--data", "sinus"], FAMILIES),
        (["train", "maml", "--data", "sinusoid", "--backend", "nympy"], ["numpy", "torch"]),
        (["train", "maml", "--data", "sinusoid", "--dtype", "float16"], ["float32", "float64"]),
        (["train", "maml", "--data", "sinusoid", "--engine", "magic"], ["analytic"]),
        (["train", "maml", "--data", "sinusoid", "--backend", "torch", "--engine", "magic"], ["autograd"]),
        (["reproduce", "sinusoid-table", "--shots", "7"], ["5", "10", "20"]),
        (["train", "maml"], ["--data"]),
        (["train", "maml", "--data", "sinusoid", "--steps", "0"], ["--steps"]),
        (["train", "maml", "--data", "sinusoid", "--resume"], ["--out"]),
        (["trian"], ["trian"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_word_that_does_not_exist_is_an_error_of_usage_that_lists_the_choices(
    words, choices, run, tmp_path
):
    result = run(*words)
    assert result.exit_code == 2
    said = plain(result.output)
    assert "Traceback" not in said
    for choice in choices:
        assert choice in said
    assert not list(tmp_path.iterdir())


def test_errors_are_one_line_without_traceback(run, tmp_path):
    for words, message in (
        (["evaluate", "nowhere"], r"error: nowhere.*missing"),
        (["train", "maml", "--data", "sinusoid", "--ways", "5"], r"error: --ways is 5, but sinusoid is regr"),
        (["train", "reptile", "--data", "sinusoid", "--inner-steps", "0"], r"error: inner_steps is 0"),
    ):
        result = run(*words)
        assert result.exit_code == 1
        assert re.fullmatch(message + ".*\n", result.output)
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_named_with_the_command_that_installs_it(tmp_path):
    code = "import sys; sys.modules['torch'] = None; from mltk.cli import main; main()"
    words = ["train", "maml", "--data", "sinusoid", "--backend", "torch"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2
    assert 'pip install "torch>=2.6"' in done.stderr
    assert "Traceback" not in done.stderr


def test_without_out_each_run_has_a_folder_of_its_own(run):
    for _ in range(3):
        assert run("train", "maml", "--data", "sinusoid", "--steps", 1).exit_code == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == [
        "maml-sinusoid",
        "maml-sinusoid-2",
        "maml-sinusoid-3",
    ]


def test_a_run_is_overwritten_by_nothing_and_continued_by_resume(run):
    words = ["train", "maml", "--data", "sinusoid", "--out", "here"]
    assert run(*words, "--steps", 5).exit_code == 0
    before = Path("here/checkpoint.npz").read_bytes()
    result = run(*words, "--steps", 9)
    assert result.exit_code == 1
    assert "--resume" in result.output
    assert Path("here/checkpoint.npz").read_bytes() == before
    assert run(*words, "--steps", 9, "--resume").exit_code == 0
    assert load_run("here").run.steps == 9
    result = run(*words, "--steps", 9, "--resume", "--seed", 1)
    assert result.exit_code == 1
    assert "seed: 0 before, 1 now" in result.output


@pytest.mark.parametrize(
    "words",
    [
        ["train", "maml", "--data", "sinusoid", "--steps", "1"],
        ["reproduce", "sinusoid-table", "--steps", "1"],
        ["oracle", "vectors"],
    ],
    ids=" ".join,
)
def test_an_empty_path_is_not_the_present_folder(words, run):
    result = run(*words, "--out", "")
    assert result.exit_code == 2
    assert "the path is empty" in plain(result.output)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "words", [[], ["train"], ["evaluate"], ["reproduce"], ["reproduce", "sinusoid-table"], ["bench"]], ids=str
)
def test_help(words, run):
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output


def test_examples_in_help_are_commands_that_parse(run, monkeypatch):
    from mltk.cli import commands

    def stop(*arguments, **settings):
        raise commands.RunError("as far as the library")

    for name in ("train_learner", "load_run"):
        monkeypatch.setattr(commands, name, stop)
    monkeypatch.setattr("mltk.reproduce.sinusoid_table", stop)
    monkeypatch.setattr(commands.Recovery, "train", stop)
    found, example = [], re.compile(r"mltk ((?:train|evaluate|reproduce) .*?-.*?)\s*$", re.M)
    for words in (["train"], ["evaluate"], ["reproduce", "sinusoid-table"], []):
        found += example.findall(run(*words, "--help").output)
    assert len(found) >= 7
    for command in found:
        result = run(*command.split())
        assert "as far as the library" in result.output, command


def test_version(run):
    assert run("--version").output == f"mltk {mltk.__version__}\n"


def test_bench_is_mounted_and_nothing_loads_torch():
    code = "import sys, mltk.cli; print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
    help_text = CliRunner().invoke(app, ["bench", "--help"]).output
    assert "sinusoid-maml" in help_text
    assert "conv4-maml" in help_text


@pytest.mark.parametrize(
    ("option", "where"),
    [
        ("--steps", "steps"),
        ("--meta-batch", "meta_batch"),
        ("--shots", "tasks.shots"),
        ("--queries", "tasks.queries"),
        ("--inner-lr", "algorithm.inner_lr"),
        ("--inner-steps", "algorithm.inner_steps"),
        ("--meta-lr", "optimizer.learning_rate"),
        ("--seed", "seed"),
    ],
)
def test_zero_is_taken_as_zero_or_refused_and_never_for_nothing(option, where, run):
    steps = [] if option == "--steps" else ["--steps", 1]
    result = run("train", "maml", "--data", "sinusoid", *steps, option, 0, "--out", "here")
    if result.exit_code == 0:
        found = settings_of("here")
        for part in where.split("."):
            found = found[part]
        assert found == 0
    else:
        assert option.removeprefix("--").replace("-", "_") in plain(result.output).replace("-", "_")
        assert not Path("here/checkpoint.npz").exists()


def test_a_step_size_of_zero_moves_nothing(run):
    words = ["train", "prototypical", "--data", "blobs", "--steps", 3, "--meta-lr", 0, "--out", "here"]
    assert run(*words).exit_code == 0
    saved = load_run("here")
    start = mltk.tree.flatten(saved.algorithm.init(saved.backend, 0))
    for name, leaf in mltk.tree.flatten(saved.run.meta_params).items():
        np.testing.assert_array_equal(leaf, start[name])


def test_recover_goes_on_after_divergence_and_with_what_is_there(run):
    words = ("train", "prototypical", "--data", "blobs", "--steps", 2, "--meta-lr", 1e6, "--out", "here")
    failed = run(*words)
    assert failed.exit_code == 1
    assert "moments.square is not finite at step 2" in failed.output
    with pytest.warns(UserWarning, match=r"retry 1 goes on after step 0, with 0\.5 of the rate"):
        result = run(*words, "--recover")
    assert (result.exit_code, result.exception) == (0, None), result.output
    assert "recovered: diverged 1 times, rate 0.5 of what it was" in result.output
    for again in ("--recover", "--resume"):
        result = run(*words, again)
        assert (result.exit_code, result.exception) == (0, None), result.output
    assert load_run("here").run.steps == 2


def test_views_are_of_images(run):
    assert run("train", "maml", "--data", "sinusoid", "--steps", 1, "--out", "waves").exit_code == 0
    result = run("evaluate", "waves", "--episodes", 2, "--views", 2)
    assert result.exit_code == 1
    assert "--views are those of images" in result.output
    assert run("evaluate", "waves", "--episodes", 2, "--views", 1).exit_code == 0
