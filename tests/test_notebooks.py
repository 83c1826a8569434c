"""Every notebook runs from its first cell to its last, and shows what it gives; hidden answers run, too."""

import copy
import json
import re
from pathlib import Path

import pytest
from texts import same_text

pytest.importorskip("nbclient", reason="notebooks are run where the extra notebooks is installed")
nbformat = pytest.importorskip("nbformat")
execute = pytest.importorskip("execute")

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
PICTURES = ("image/svg+xml", "image/png")
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def printed(cell):
    return "".join(
        output.get("text", output.get("data", {}).get("text/plain", ""))
        for output in cell.outputs
        if not set(PICTURES) & set(output.get("data", {}))
    )


def drawn(cell):
    return sum(any(kind in output.get("data", {}) for kind in PICTURES) for output in cell.outputs)


def answers(notebook):
    """The notebook with the code of hidden answers as cells of their own, where they stand."""
    notebook = copy.deepcopy(notebook)
    for index in reversed(range(len(notebook.cells))):
        if notebook.cells[index].cell_type == "markdown":
            code = re.findall(r"```python\n(.*?)```", notebook.cells[index].source, re.S)
            cells = [nbformat.v4.new_code_cell(block, metadata={"answer": True}) for block in code]
            notebook.cells[index + 1 : index + 1] = cells
    return notebook


@every_notebook
def test_a_notebook_shows_what_its_code_gives(path):
    if "torch" in path.read_text():
        pytest.importorskip("torch")
    notebook = nbformat.read(path, as_version=4)
    done = execute.executed(answers(notebook))
    ran = [cell for cell in done.cells if cell.cell_type == "code" and "answer" not in cell.metadata]
    shown = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for found, expected in zip(ran, shown, strict=True):
        assert not any(output.get("name") == "stderr" for output in found.outputs), found.outputs
        assert same_text(printed(found), printed(expected)), (printed(found), printed(expected))
        assert drawn(found) == drawn(expected), expected.source


@every_notebook
def test_a_notebook_has_a_title_exercises_sources_and_words_for_its_pictures(path):
    notebook = json.loads(path.read_text())
    text = "\n".join("".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "markdown")
    assert len(re.findall(r"^# ", text, re.M)) == 1
    assert text.startswith("# ")
    assert re.findall(r"^## (Exercises|Sources)", text, re.M) == ["Exercises", "Sources"]
    exercises = text.split("## Exercises")[1]
    assert 2 < len(re.findall(r"^\*\*\d\.\*\*", exercises, re.M)) == exercises.count("<details>")
    for cell in notebook["cells"]:
        if any(set(PICTURES) & set(output.get("data", {})) for output in cell.get("outputs", [])):
            assert cell["metadata"].get("alt"), "".join(cell["source"])


def test_texts_differ_by_words_and_by_numbers():
    assert same_text("loss 1.000001", "loss 1.0")
    assert not same_text("loss 1.1", "loss 1.0")
    assert not same_text("lost 1.0", "loss 1.0")
    assert not same_text("", "loss 1.0")
