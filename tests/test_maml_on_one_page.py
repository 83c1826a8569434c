"""The notebook that shows MAML on one page: its code is the library's gradient, and its outputs are fresh."""

import contextlib
import io
import json
import re
from pathlib import Path

import maml_on_one_page as page
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mltk

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "02-maml-on-one-page.ipynb"
CELLS = [
    cell
    for cell in json.loads(NOTEBOOK.read_text())["cells"]
    if cell["cell_type"] == "code" and "hide-input" not in cell["metadata"].get("tags", [])
]
CODE = ["".join(cell["source"]) for cell in CELLS]


@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=4),
    st.integers(0, 4),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
)
def test_the_page_is_the_library(widths, steps, shots, seed):
    learner = mltk.algorithms.MAML(
        mltk.models.mlp(widths, activation="tanh"), "mse", inner_lr=0.05, inner_steps=steps
    )
    meta_params = learner.init(mltk.backend("numpy", dtype="float64"), seed)
    rng = np.random.default_rng(seed)
    sets = [rng.normal(size=(3, n, d)) for n in (shots, 4) for d in (widths[0], widths[-1])]
    value, grads = learner.value_and_grad(meta_params, mltk.Episode(*sets))
    params = [(p["weight"], p["bias"]) for p in meta_params.values()]
    tasks = [page.maml(params, (x, y), (qx, qy), 0.05, steps) for x, y, qx, qy in zip(*sets, strict=True)]
    assert np.mean([loss for loss, _ in tasks]) == pytest.approx(float(value), rel=1e-12, abs=1e-12)
    for layer, expected in enumerate(grads.values()):
        for part, name in enumerate(("weight", "bias")):
            found = np.mean([grad[layer][part] for _, grad in tasks], axis=0)
            np.testing.assert_allclose(found, expected[name], rtol=1e-12, atol=1e-12)


def test_the_notebook_has_the_code_of_the_module():
    module = Path(page.__file__).read_text().split('"""', 2)[2].strip()
    assert "\n\n\n".join(CODE).startswith(module)


def test_a_page_is_short_and_needs_numpy_alone():
    assert sum(len(code.splitlines()) for code in CODE) <= 80
    assert re.findall(r"^ *(?:import|from) (\w+)", "\n".join(CODE), re.M) == ["numpy"]


def test_its_outputs_are_what_it_prints():
    names = {}
    for cell, code in zip(CELLS, CODE, strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, NOTEBOOK.name, "exec"), names)
        shown = "".join(line for output in cell["outputs"] for line in output["text"])
        words, numbers = re.compile(r"-?\d+\.\d+").split, re.compile(r"-?\d+\.\d+").findall
        assert words(printed.getvalue()) == words(shown)
        # Two thousand steps of training end a little elsewhere where sums are rounded otherwise.
        found, expected = (
            [float(number) for number in numbers(text)] for text in (printed.getvalue(), shown)
        )
        np.testing.assert_allclose(found, expected, rtol=0.1)


def test_the_derivative_by_hand_that_it_prints_is_the_one_by_differences():
    shown = "".join(line for cell in CELLS for output in cell["outputs"] for line in output["text"])
    by_hand, differences = re.search(r"(\S+) by hand, (\S+) by differences", shown).groups()
    assert float(by_hand) == pytest.approx(float(differences), rel=1e-5)
