"""Execute notebooks and write their outputs into them: ``python website/execute.py [notebooks/NAME.ipynb]``.

The kernel draws SVG, without dates and with fixed identifiers, so that the same code gives the same file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
STYLE = {
    "svg.hashsalt": "mltk",
    "svg.fonttype": "path",
    "figure.figsize": (7.0, 3.0),
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": "cycler('color', ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9'])",
}


def executed(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy of a notebook with the outputs that its code gives, run in an empty folder.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    notebook = nbformat.from_dict(notebook)
    os.environ.update(SOURCE_DATE_EPOCH="0", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    settings = ["--InlineBackend.figure_formats=svg", f"--InlineBackend.rc={STYLE!r}"]
    with TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=300,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            coalesce_streams=True,
            extra_arguments=settings,
        )
        client.execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook.metadata = nbformat.from_dict({"kernelspec": kernel})
    return notebook


def main(names: list[str]) -> None:
    """Execute these notebooks, or all."""
    for path in [Path(name) for name in names] or sorted(NOTEBOOKS.glob("*.ipynb")):
        print(path.stem, flush=True)
        nbformat.write(executed(nbformat.read(path, as_version=4)), path)


if __name__ == "__main__":
    main(sys.argv[1:])
