"""Failing cases as code: it runs as it is, and shows what is wrong."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from oracle_cases import CANDIDATES, few_cases, few_vectors, maml_case, verdict  # noqa: F401


def run_snippet(code, folder):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{code}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize(
    ("name", "arrays", "dtype"),
    [
        ("torch_first_order", "torch", "float64"),
        ("double_loss", "numpy", "float32"),
        ("double_loss", "jax", "float64"),
    ],
)
def test_a_snippet_runs_and_shows_both(name, arrays, dtype):
    if arrays == "jax":
        pytest.importorskip("jax", reason="jax is not installed")
    found = verdict(f"{CANDIDATES}:{name}", arrays=arrays, dtype=dtype)
    printed = run_snippet(found.snippet, Path.cwd())
    shown, expected = (float(n) for n in re.findall(r"^(?:found|expected).*?(\d+\.\d+)", printed, re.M))
    assert expected == pytest.approx(float(found.smallest.case.expected["loss"]), rel=1e-12)
    factor = 1 if name == "torch_first_order" else 2
    assert shown == pytest.approx(factor * expected, rel=1e-5 if dtype == "float32" else 1e-10)


def test_a_snippet_of_a_module_imports_it(tmp_path):
    (tmp_path / "my_maml.py").write_text(CANDIDATES.read_text())
    code = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
import my_maml
from mltk.oracle.snippet import snippet
sys.path.insert(0, {str(CANDIDATES.parent)!r})
from oracle_cases import maml_case
print(snippet(my_maml.double_loss, "maml", maml_case("c", 1), arrays="numpy", dtype="float64"))
"""
    made = run_snippet(code, tmp_path)
    assert "from my_maml import double_loss" in made
    assert "expected" in run_snippet(made, tmp_path)


def test_a_snippet_of_a_peer_runs():
    from mltk.oracle.snippet import snippet

    code = snippet("torch-loop", "maml", maml_case("c", 1), arrays="torch", dtype="float64")
    found, expected = run_snippet(code, Path.cwd()).split("expected")
    value, truth = (float(re.search(r"\d+\.\d+", text).group()) for text in (found, expected))
    assert value == pytest.approx(truth, abs=1e-4)


def test_a_snippet_shows_state_and_changes():
    drifting = verdict(f"{CANDIDATES}:drifts")
    losses = re.findall(r"call.*?(\d+\.\d+)", run_snippet(drifting.snippet, Path.cwd()))
    assert len(losses) == 2
    assert float(losses[1]) == pytest.approx(float(losses[0]) * 1.002 / 1.001, rel=1e-9)
    changing = verdict(f"{CANDIDATES}:changes_params")
    before, after = run_snippet(changing.snippet, Path.cwd()).split("after ")
    assert before.startswith("before params.get('0.weight')")
    numbers = [
        np.array([float(n) for n in re.findall(r"-?\d+\.\d*", text.partition(")")[2])])
        for text in (before, after)
    ]
    np.testing.assert_allclose(numbers[0] + 1, numbers[1])


def test_a_function_without_a_name_has_a_snippet_to_complete():
    found = verdict(lambda params, data, settings: 0.0)
    assert "candidate = ...  # <lambda>" in found.snippet
