"""What the pages on extending mltk show is done: their files are written and run as a user's own."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from routes import NUMPY

import mltk
from mltk.errors import RunError

PAGES = sorted((Path(__file__).parent.parent / "docs" / "how-to").glob("own-*.md"))
TEXT = "\n".join(page.read_text() for page in PAGES)
FILES = dict(re.findall(r'^```py title="([\w/]+\.py)"\n(.*?)^```$', TEXT, re.M | re.S))
PROGRAMS = [name for name in FILES if not name.startswith("my_package/")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder outside mltk that holds the files of the pages, and what their installation would know."""
    folder = tmp_path_factory.mktemp("extending")
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").write_text("")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    (project,) = re.findall(r'^```toml title="pyproject.toml"\n(.*?)^```$', TEXT, re.M | re.S)
    about = tomllib.loads(project)["project"]
    known = folder / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    known.mkdir()
    (known / "METADATA").write_text(f"Name: {about['name']}\nVersion: {about['version']}\n")
    lines = [
        f"[{group}]\n{key} = {value}\n"
        for group, found in about["entry-points"].items()
        for key, value in found.items()
    ]
    (known / "entry_points.txt").write_text("".join(lines))
    return folder


@pytest.fixture
def module(folder, monkeypatch):
    """A function that imports a module of the package."""
    monkeypatch.syspath_prepend(str(folder))
    yield lambda name: importlib.import_module(f"my_package.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


def test_each_of_the_five_is_used_and_each_rule_proved():
    kinds = {"decays", "fine_tuning", "gain", "inner_products", "strict"}
    assert {Path(name).stem for name in FILES if name.startswith("my_package/")} == kinds
    assert {Path(name).stem for name in PROGRAMS} == {f"use_{kind}" for kind in kinds} | {
        "test_gain",
        "test_inner_products",
    }
    assert len(re.findall("^```py ", TEXT, re.M)) == len(FILES)


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_shown_runs(folder, name):
    for library in ("torch", "array_api_strict"):
        if f'"{library}"' in FILES[name]:
            pytest.importorskip(library)
    done = subprocess.run([sys.executable, name], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    if name.startswith("use_"):
        assert "95 % interval over 100 tasks" in done.stdout


def test_what_is_shown_is_learned(module):
    tasks = module("decays").Decays(shots=5, queries=10)
    learner = module("fine_tuning").FineTuning(mltk.models.mlp([1, 20, 1], activation="tanh"))
    classes = mltk.data.Blobs(ways=3, shots=2, queries=4)
    heads = module("inner_products").InnerProducts(mltk.models.mlp([3, 16, 8], activation="tanh"))
    for algorithm, source, better in [(learner, tasks, np.less), (heads, classes, np.greater)]:
        start = algorithm.init(NUMPY, 0)
        run = mltk.train(algorithm, source, backend=NUMPY, steps=200, seed=0)
        before, after = (
            mltk.evaluate(algorithm, params, source, episodes=100).mean for params in (start, run.meta_params)
        )
        assert better(after, before)


def test_fine_tuning_descends(module):
    learner = module("fine_tuning").FineTuning(mltk.models.mlp([1, 20, 1], activation="tanh"), lr=0.01)
    params, episode = learner.init(NUMPY, 0), mltk.data.Sinusoid(10, 10).sample(8, 0, NUMPY)
    x, y = episode.support_x, episode.support_y
    before, after = (learner.predict(state, x) - y for state in (params, learner.adapt(params, x, y)))
    assert ((after**2).mean((1, 2)) < (before**2).mean((1, 2))).all()


@pytest.mark.parametrize("name", ["gain", "inner_products", "fine_tuning"])
def test_meta_gradients_are_central_differences(module, name):
    if name == "gain":
        layers = [mltk.ops.Linear(1, 4), module(name).Gain(4), mltk.ops.Tanh(), mltk.ops.Linear(4, 1)]
        learner = mltk.algorithms.MAML(mltk.models.Sequential(layers), "mse", inner_lr=0.1, inner_steps=2)
        source = mltk.data.Sinusoid(5, 5)
    elif name == "inner_products":
        learner = module(name).InnerProducts(mltk.models.mlp([3, 4, 3], activation="tanh"))
        source = mltk.data.Blobs(ways=3, shots=2, queries=4)
    else:
        learner = module(name).FineTuning(mltk.models.mlp([1, 4, 1], activation="tanh"))
        source = mltk.data.Sinusoid(5, 5)
    params, episode = learner.init(NUMPY, 0), source.sample(3, 0, NUMPY)
    rng, step = np.random.default_rng(0), 1e-5
    direction = mltk.tree.map(lambda leaf: rng.normal(size=leaf.shape), params)
    _, grads = learner.value_and_grad(params, episode)
    slope = sum(
        (mltk.tree.flatten(grads)[name] * d).sum() for name, d in mltk.tree.flatten(direction).items()
    )
    ahead, behind = (
        learner.value_and_grad(mltk.tree.map(lambda p, d, s=s: p + s * d, params, direction), episode)[0]
        for s in (step, -step)
    )
    assert (ahead - behind) / (2 * step) == pytest.approx(slope, rel=1e-7)


def test_a_run_of_ones_own_is_loaded_with_ones_own_alone(module, tmp_path):
    tasks = module("decays").Decays(shots=5, queries=10)
    learner = module("fine_tuning").FineTuning(mltk.models.mlp([1, 4, 1]))
    run = mltk.train(learner, tasks, backend=NUMPY, steps=3, out=tmp_path / "run")
    saved = mltk.load_run(tmp_path / "run", algorithm=learner, tasks=tasks)
    for name, leaf in mltk.tree.flatten(saved.run.meta_params).items():
        np.testing.assert_array_equal(leaf, mltk.tree.flatten(run.meta_params)[name])
    with pytest.raises(RunError, match="algorithm="):
        mltk.load_run(tmp_path / "run")


ROOT = Path(__file__).parent.parent
SOURCES = [path for folder in ("mltk", "backends") for path in (ROOT / folder).rglob("*.py")]


def words_of(path):
    """The names and the texts in the code of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.ClassDef(name=word) | ast.FunctionDef(name=word) | ast.alias(name=word):
                yield word
            case ast.Name(id=word) | ast.Attribute(attr=word) | ast.Constant(value=str(word)):
                yield word


@pytest.mark.parametrize(
    ("names", "most"),
    [
        ({"Harmonic"}, 2),
        ({"Reptile", "reptile"}, 4),
        ({"LSTM", "lstm", "op-lstm"}, 6),
        ({"SiLU", "silu", "op-silu"}, 5),
        ({"LogisticHead", "LogisticRegression", "logistic", "random_logistic"}, 9),
    ],
)
def test_what_is_part_of_mltk_is_named_in_few_files(names, most):
    """Known mistakes and the code that makes them are more, and come one by one."""
    files = {path.relative_to(ROOT).as_posix() for path in SOURCES if names & set(words_of(path))}
    counted = {path for path in files if not re.search("oracle/(mistakes|catalogue|specimens)/", path)}
    assert 1 < len(counted) <= most, sorted(counted)
