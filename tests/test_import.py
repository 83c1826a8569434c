"""What `import mltk` takes, and what is said where Torch is missing."""

import subprocess
import sys
import textwrap

import pytest

HEAVY = ("torch", "scipy", "matplotlib", "rich", "typer", "pooch", "jax", "pandas")


def run(code):
    """Run code in a new interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light():
    loaded = run("import sys, mltk; print(*{name.split('.')[0] for name in sys.modules})").split()
    assert "mltk" in loaded
    assert not set(HEAVY) & set(loaded)


def test_oracle_and_pictures_are_there_and_imported_when_they_are_used():
    printed = run(
        """
        import sys, mltk
        parts = ("mltk.oracle", "mltk.pictures")
        print(*(part in sys.modules for part in parts))
        print(mltk.oracle.__name__, mltk.pictures.fits.__name__, "matplotlib" in sys.modules)
        """
    )
    assert printed.split() == ["False", "False", "mltk.oracle", "fits", "False"]


def test_a_meta_gradient_on_numpy_needs_none_of_the_heavy_libraries():
    loaded = run(
        """
        import sys, mltk
        be = mltk.backend("numpy")
        maml = mltk.algorithms.MAML(mltk.models.conv4(1, 16, width=2, out_features=3), "cross_entropy")
        x, y = be.xp.zeros((1, 3, 1, 16, 16), dtype=be.xp.float32), be.xp.arange(3)[None]
        maml.value_and_grad(maml.init(be, seed=0), mltk.Episode(x, y, x, y, ways=3))
        mltk.data.Blobs(3, 1, 1).sample(2, 0, be)
        print(*{name.split(".")[0] for name in sys.modules})
        """
    ).split()
    assert not set(HEAVY) & set(loaded)


ABSENT = """
    import sys
    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] == "torch":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    sys.meta_path.insert(0, Absent())
"""


@pytest.mark.parametrize("missing", ["import sys; sys.modules['torch'] = None", textwrap.dedent(ABSENT)])
def test_without_torch_the_command_that_installs_it_is_named(missing):
    printed = run(
        missing
        + textwrap.dedent(
            """
            import mltk
            from mltk.errors import BackendError
            be = mltk.backend("numpy")
            maml = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")
            maml.value_and_grad(maml.init(be, seed=0), mltk.data.Sinusoid(2, 2).sample(3, 0, be))
            for _ in range(2):
                try:
                    mltk.backend("torch")
                except BackendError as error:
                    print(error)
            """
        )
    )
    assert printed.count('pip install "torch>=2.6"') == 2
    assert "'torch' cannot do without torch" in printed
