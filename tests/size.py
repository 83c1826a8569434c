"""The size of the house, counted: ``python -m tests.size`` prints it, and the suite holds it to its limits.

Code lines are those that are not blank, nor comments, nor docstrings. The road is the files in which a
function runs during one step of MAML on a 1-4-1 network with NumPy. A cycle is a set of files each of which
imports all others, at whatever place and for whatever purpose it does so.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

SOURCES = {"mltk": ROOT / "mltk", "mltk_backends": ROOT / "backends"}
"""The import packages and the folders of their files."""


def files(folder: Path) -> list[Path]:
    """The Python files of a folder and those below it."""
    return sorted(folder.rglob("*.py"))


def code_lines(path: Path) -> int:
    """How many lines of a file are not blank, nor a comment, nor of a docstring."""
    text = path.read_text()
    left = {
        number
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip() and not line.strip().startswith("#")
    }
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            left -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(left)


def modules() -> dict[str, Path]:
    """Every module of the installed packages, by its name."""
    found = {}
    for package, folder in SOURCES.items():
        for path in files(folder):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


def imports(name: str, path: Path, known: dict[str, Path]) -> set[str]:
    """The modules among ``known`` that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else str(node.module))
    return (found & set(known)) - {name}


def cycles() -> list[set[str]]:
    """The sets of more than one module that import each other (Tarjan, 1972)."""
    known = modules()
    arrows = {name: imports(name, path, known) for name, path in known.items()}
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    open_: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        number[name] = low[name] = len(number)
        open_.append(name)
        for other in arrows[name]:
            if other not in number:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in open_:
                low[name] = min(low[name], number[other])
        if low[name] == number[name]:
            members = set(open_[open_.index(name) :])
            del open_[open_.index(name) :]
            if len(members) > 1:
                found.append(members)

    for name in known:
        if name not in number:
            visit(name)
    return found


def road() -> list[Path]:
    """The files in which something runs during one step of MAML, in the order in which they are first met."""
    import mltk_backends
    import numpy as np

    import mltk

    folders = {
        Path(mltk.__file__).parent: SOURCES["mltk"],
        Path(mltk_backends.__file__).parent: SOURCES["mltk_backends"],
    }
    numpy = mltk.backend("numpy")
    rng = np.random.default_rng(0)
    episode = mltk.data.Sinusoid(shots=5, queries=5).sample(2, rng, numpy)
    learner = mltk.algorithms.MAML(
        mltk.models.mlp([1, 4, 1]), mltk.ops.MeanSquaredError(), inner_lr=0.01, inner_steps=1
    )
    params = learner.init(numpy, seed=0)
    met: dict[str, None] = {}

    def note(frame, event, argument):
        met.setdefault(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        learner.value_and_grad(params, episode)
    finally:
        sys.setprofile(None)
    return [
        here / Path(name).relative_to(installed)
        for name in met
        for installed, here in folders.items()
        if Path(name).is_relative_to(installed)
    ]


def counts() -> Iterator[tuple[str, int]]:
    """What is counted, and how many there are."""
    everything = [path for folder in SOURCES.values() for path in files(folder)]
    oracle = files(SOURCES["mltk"] / "oracle")
    step = road()
    yield "files on the road of a MAML step", len(step)
    yield "lines on the road of a MAML step", sum(map(length, step))
    yield "files in import cycles", sum(map(len, cycles()))
    yield (
        "code lines of mltk without the oracle",
        sum(map(code_lines, set(files(SOURCES["mltk"])) - set(oracle))),
    )
    yield "code lines of the oracle", sum(map(code_lines, oracle))
    yield "lines of the longest file", max(map(length, everything))
    yield "lines of the tests", sum(map(length, files(ROOT / "tests")))


def length(path: Path) -> int:
    """How many lines a file has."""
    return path.read_text().count("\n")


def main() -> None:
    """Print the counts, the road and the cycles."""
    for name, count in counts():
        print(f"{count:7,}  {name}")
    print("\nThe road: " + ", ".join(str(path.relative_to(ROOT)) for path in road()))
    for cycle in cycles():
        print("A cycle: " + ", ".join(sorted(cycle)))


if __name__ == "__main__":
    main()
