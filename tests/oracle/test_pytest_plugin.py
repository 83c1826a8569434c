"""The pytest plugin: a small project that uses the fixture, and one that does not."""

import os
import subprocess
import sys

import pytest
from oracle_cases import CANDIDATES

PROJECT = f"""
import sys
sys.path.insert(0, {str(CANDIDATES.parent)!r})
import oracle_candidates
import pytest
from mltk.oracle import vectors
from oracle_cases import few_cases

@pytest.fixture(autouse=True)
def few_vectors(monkeypatch):  # which are faster than all
    monkeypatch.setattr(vectors, "stored", lambda name: few_cases())

def test_right(mltk_oracle):
    assert mltk_oracle.check("maml", oracle_candidates.right, arrays="numpy", examples=5).passed

def test_wrong(mltk_oracle):
    mltk_oracle.check("maml", oracle_candidates.torch_first_order, examples=5)

def test_impossible(mltk_oracle):
    mltk_oracle.check("maml", oracle_candidates.unsupported, arrays="numpy", examples=5)
"""


def run_pytest(folder, *arguments):
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_verdict_is_the_message_of_the_assertion(tmp_path):
    (tmp_path / "test_project.py").write_text(PROJECT)
    done = run_pytest(tmp_path, "-rf")
    assert "2 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "FAILED test_project.py::test_wrong" in done.stdout
    for text in ("first-order", "usual cause", "candidate = torch_first_order"):
        assert text in done.stdout
    assert "test_wrong - AssertionError: maml is wrong (first-order)" in done.stdout
    assert "only by hand" in done.stdout
    assert "\x1b" not in done.stdout
    assert "report.passed" not in done.stdout  # the inside of the fixture is not shown


def test_pytest_knows_the_fixture(tmp_path):
    assert "mltk_oracle" in run_pytest(tmp_path, "--fixtures").stdout


def test_a_project_without_the_fixture_imports_nothing(tmp_path):
    pytest_alone = """
import sys
def test_nothing():
    heavy = {"numpy", "mltk", "torch", "rich"}
    assert heavy & {name.split(".")[0] for name in sys.modules} == set()
"""
    (tmp_path / "test_project.py").write_text(pytest_alone)
    others = [
        argument
        for plugin in ("hypothesispytest", "xdist", "xdist.looponfail", "platformdirs")
        for argument in ("-p", f"no:{plugin}")
    ]
    done = run_pytest(tmp_path, *others)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_plugin_is_loaded(pytestconfig):
    if not pytestconfig.pluginmanager.has_plugin("mltk_oracle"):
        pytest.skip("plugins of installed packages are switched off")
    assert pytestconfig.pluginmanager.get_plugin("mltk_oracle").__name__ == "mltk_pytest"
