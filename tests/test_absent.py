"""What works without a library, and what is said where it is needed.

Each case runs in a Python of its own that cannot import the library, as if it were not installed.
"""

import os
import subprocess
import sys
from textwrap import dedent

import pytest

ABSENT = """
from importlib.machinery import PathFinder
find_spec = PathFinder.find_spec
def find_spec_but_for(name, path=None, target=None):
    return None if name.partition(".")[0] in {absent} else find_spec(name, path, target)
PathFinder.find_spec = find_spec_but_for
"""
LIBRARIES = (
    *(
        "torch",
        "scipy",
        "mpmath",
        "hypothesis",
        "jax",
        "matplotlib",
        "PIL",
        "rich",
        "typer",
        "pooch",
        "tomli_w",
    ),
    *("pytest", "jsonschema_rs", "array_api_strict"),
)
BROWSER = ("fcntl", "resource", "_multiprocessing")
THREADLESS = """
        import threading
        def refused(thread):
            raise RuntimeError("can't start new thread")
        threading.Thread.start = refused
"""
CANDIDATE = "def maml(params, data, settings):\n    raise NotImplementedError\n"


def run(absent, code, folder, *arguments):
    """A Python that, like all those that it starts, lacks some modules; it runs code in a folder."""
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(ABSENT.format(absent=set(absent)))
    return subprocess.run(
        [sys.executable, "-c", dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
    )


def command(absent, words, folder):
    """The command line without some modules."""
    return run(absent, "from mltk.cli import main; main()", folder, *words.split())


def test_with_numpy_alone_and_in_a_browser_learners_train_and_are_evaluated(tmp_path):
    done = run(
        (*LIBRARIES, *BROWSER),
        THREADLESS
        + """
        import mltk
        from mltk.algorithms import MAML, Prototypical, RidgeRegression
        backend = mltk.backend("numpy", dtype="float64")
        waves = mltk.data.Sinusoid(shots=5, queries=5)
        maml = MAML(mltk.models.mlp([1, 8, 1]), "mse", inner_lr=0.01)
        run = mltk.train(maml, waves, backend=backend, steps=20, seed=0)
        print(mltk.evaluate(maml, run.meta_params, waves, episodes=40, seed=1))
        blobs = mltk.data.Blobs(ways=3, shots=2, queries=3, features=4)
        glyphs = mltk.data.Glyphs(alphabets=2, image_size=16).tasks(ways=3, shots=1, queries=2)
        drawn = mltk.models.conv4(1, 16, width=2)
        for learner, tasks in (
            (Prototypical(mltk.models.mlp([4, 8])), blobs),
            (RidgeRegression(mltk.models.mlp([4, 8])), blobs),
            (Prototypical(drawn), glyphs),
        ):
            run = mltk.train(learner, tasks, backend=backend, steps=5, seed=0)
            print(mltk.evaluate(learner, run.meta_params, tasks, episodes=40, seed=1))
        import sys
        print(sorted(set(sys.modules) & {"scipy", "fcntl", "torch", "mpmath"}))
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("95 % interval") == 4
    assert done.stdout.endswith("[]\n")


def test_a_run_is_whole_without_its_picture(tmp_path):
    done = run(
        ("matplotlib",),
        """
        import mltk
        backend, waves = mltk.backend("numpy"), mltk.data.Sinusoid(5, 5)
        maml = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")
        trained = mltk.train(maml, waves, backend=backend, steps=3, out="run")
        print(trained.steps, mltk.load_run("run").run.steps)
        """,
        tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, "3 3\n"), done.stderr
    assert "curves.svg was not drawn: " in done.stderr
    assert "matplotlib>=" in done.stderr


def test_a_run_is_kept_and_continued_in_a_browser(tmp_path):
    done = run(
        BROWSER,
        THREADLESS
        + """
        import mltk
        backend, waves = mltk.backend("numpy"), mltk.data.Sinusoid(5, 5)
        maml = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")
        mltk.train(maml, waves, backend=backend, steps=3, out="run")
        mltk.train(maml, waves, backend=backend, steps=6, out="run", resume=True)
        print(mltk.load_run("run").run.steps)
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("6\n")


def test_a_triangular_solve_needs_no_scipy(tmp_path):
    code = """
        import sys
        import numpy as np
        import mltk.backend
        kernels = mltk.backend("numpy", dtype="float64").kernels
        factor = np.linalg.cholesky(np.eye(6) + np.ones((2, 6, 6)))
        b = np.random.default_rng(0).normal(size=(2, 6, 3))
        print(kernels.cholesky_solve(factor, b).tolist(), "scipy.linalg" in sys.modules)
    """
    with_it, without = (run(absent, code, tmp_path).stdout for absent in ((), ("scipy",)))
    assert with_it.endswith("True\n")
    assert without.endswith("False\n")
    numbers = [eval(text.rpartition("]")[0] + "]") for text in (with_it, without)]
    assert sum(map(len, numbers[0][0])) == 18
    for one, other in zip(*numbers, strict=True):
        for row, other_row in zip(one, other, strict=True):
            assert row == pytest.approx(other_row, rel=1e-13)


@pytest.mark.parametrize(
    ("library", "hint", "code"),
    [
        ("matplotlib", "matplotlib>=", "mltk.pictures.learning_curve([{'step': 1, 'loss': 1}], 'a.svg')"),
        ("PIL", "pillow>=", "mltk.data.ImageFolder('images', 8).tasks(2, 1, 1).sample(1, 0, backend)"),
        ("tomli_w", "tomli-w>=", "mltk.train(maml, waves, backend=backend, steps=1, out='run')"),
        ("pooch", "pooch>=", "mltk.data.data_home()"),
        ("scipy", "scipy>=", "mltk.data.Blobs(3, 1, 1).bayes_accuracy"),
        ("mpmath", "mpmath>=", "mltk.oracle.check"),
        ("mpmath", "mpmath>=", "from mltk.oracle.vectors import stored"),
        ("hypothesis", "hypothesis>=", "mltk.oracle.check(len, ['maml'], arrays='numpy')"),
        ("torch", "torch>=", "mltk.backend('torch')"),
        ("torch", "torch>=", "from mltk_backends.torch import ModuleModel"),
        ("torch", "torch>=", "import mltk.compat.learn2learn"),
        ("rich", "rich>=", "from mltk.oracle.pytest_plugin import Oracle"),
    ],
)
def test_a_missing_library_is_named_with_the_command_that_installs_it(library, hint, code, tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "images" / "a" / "1.png").write_bytes(b"")
    done = run(
        [library],
        f"""
        import os
        os.environ.pop("MLTK_DATA", None)
        import mltk, mltk.pictures
        from mltk.errors import MltkError
        backend, waves = mltk.backend("numpy"), mltk.data.Sinusoid(5, 5)
        maml = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")
        try:
            {code}
        except MltkError as error:
            print(error)
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert f'{library}, which is not installed: pip install "{hint}' in done.stdout


@pytest.mark.parametrize(
    ("library", "words"),
    [
        ("typer", "evaluate runs"),
        ("rich", "data list"),
        ("mpmath", "oracle check maml.py:maml --arrays numpy"),
        ("mpmath", "oracle vectors --out vectors --only sgd"),
        ("mpmath", "oracle computations"),
        ("hypothesis", "oracle check maml.py:maml --arrays numpy"),
        ("rich", "oracle check maml.py:maml --arrays numpy --examples 0"),
        ("torch", "oracle check maml.py:maml --examples 0"),
        ("torch", "oracle check torch-func --examples 0"),
        ("torch", "oracle vectors --out vectors --only mse --regenerate"),
        ("torch", "oracle selftest"),
        ("jax", "oracle check maml.py:maml --arrays jax --examples 0"),
        ("higher", "oracle check higher --examples 0"),
        ("torch", "train maml --data sinusoid --backend torch"),
        ("torch", "bench modules"),
        ("pooch", "data get omniglot"),
    ],
)
def test_a_command_without_its_library_ends_with_2_and_says_so(library, words, tmp_path):
    (tmp_path / "maml.py").write_text(CANDIDATE)
    done = command([library], words, tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "pip install" in done.stdout + done.stderr
    assert library in done.stdout + done.stderr
