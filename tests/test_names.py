"""Names that people are told are there."""

import ast
import builtins
import re
from collections import defaultdict
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import mltk_backends.torch
import pytest
from torch import nn
from torch.utils import data as torch_data

import mltk
from mltk import algorithms, data, errors, evaluation, heads, models, ops, optim, task_analysis, toolkit
from mltk.optim import transforms
from mltk.task_analysis import curricula

ROOT = Path(__file__).parent.parent
PUBLIC = (
    *("backend", "backend_of", "Episode", "train", "evaluate", "load_run", "__version__"),
    *("models", "algorithms", "optim", "data", "heads", "ops", "tree", "evaluation", "oracle", "pictures"),
    *("Module", "clone_module", "update_module", "detach_module", "meta_grad", "magic_box", "surrogate"),
    *(
        "ABTest",
        "MetaLearningEvaluator",
        "LearnableOptimizer",
        "RidgeRegression",
        "ridge_regression",
        "matching_loss",
    ),
    *("matching_log_probabilities", "pairwise_cosine_similarity", "pairwise_sqeuclidean"),
    *(
        "hardness_metric",
        "task_analysis",
        "LearnabilityAnalyzer",
        "toolkit",
        "Records",
        "MetaLearningToolkit",
    ),
)
CONTENTS = (
    *(mltk, algorithms, data, evaluation, heads, models, ops, optim, transforms, task_analysis, curricula),
    toolkit,
    mltk_backends.torch,
)
DOTTED = re.compile(r"`(mltk(?:_backends)?(?:\.[A-Za-z_]\w*)+)[`(]")

NAMESAKES = {
    "Answer": "what a specimen made the check say, and what the toolkit says to a task",
    "Case": "what peers are timed on, and what candidates are judged on: each is what its own users call it",
    "Chain": "of outer optimisers and of transforms; saved runs name each with its package",
    "Clip": "the transform, and a catalogued mistake in it, which must not be made of it",
    "Evidence": "for the hyperparameters of a Bayesian fit, as its field says, and for decisions about tasks",
    "MAML": "the learner, and the class of the same name that learn2learn's users know",
    "Row": "of the benchmark's table, and of records: each is what its own users call it",
    "Scale": "the transform, and how a catalogued mistake scales",
    "Traced": "two independent computations of the oracle, each with what it notes on its way",
}
"""Names that two classes share, and why."""


def there(dotted):
    """Whether a module of this name can be imported, or a module has it, or a class there declares it."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):  # `mltk.backend` is a module and a function: try all ways
        try:
            found = import_module(".".join(parts[:length]))
            for step in parts[length:-1]:
                found = getattr(found, step)
        except (ImportError, AttributeError):
            continue
        kinds = found.__mro__ if isinstance(found, type) else ()
        declared = any(parts[-1] in vars(kind).get("__annotations__", {}) for kind in kinds)
        if length == len(parts) or hasattr(found, parts[-1]) or declared:
            return True
    return False


@pytest.mark.parametrize("name", PUBLIC)
def test_the_public_names_are_there(name):
    assert hasattr(mltk, name)
    assert name in mltk.__all__


def test_all_names_in_the_tables_of_contents_are_there():
    for module in (*CONTENTS, mltk.oracle):
        for name in getattr(module, "__all__", ()):
            assert hasattr(module, name), f"{module.__name__}.{name}"


def test_dotted_names_in_the_documentation_and_in_docstrings_are_there():
    pages = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("notebooks/*.ipynb"),
        *ROOT.glob("mltk/**/*.py"),
        *ROOT.glob("backends/**/*.py"),
    ]
    groups = entry_points().groups
    count = 0
    for page in pages:
        for dotted in DOTTED.findall(page.read_text()):
            if dotted in groups:
                continue
            assert there(dotted), f"{page.relative_to(ROOT)} names {dotted}"
            count += 1
    assert count > 100


def test_a_name_that_is_not_there_is_found_out():
    for dotted in (
        "mltk.data.Prefetch",
        "mltk.contracts.Backend",
        "mltk.oracle.candidate.worker",
        "mltk.Episode.ways",
    ):
        assert there(dotted)
    for dotted in ("mltk.data.Nothing", "mltk.nowhere.Sinusoid", "mltk.Episode.nothing", "mltk.nothing"):
        assert not there(dotted)


def test_the_classes_that_the_changelog_names_are_there():
    words = re.findall(r"`([A-Z]\w*)[.(`]", (ROOT / "CHANGELOG.md").read_text())
    assert len(words) > 30
    for word in words:
        assert any(hasattr(module, word) for module in (*CONTENTS, errors, builtins, nn, torch_data)), word


def classes(folder):
    """Every public class of the files below a folder, and where it is defined."""
    found = defaultdict(list)
    for path in sorted(folder.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(path.relative_to(ROOT).as_posix())
    return found


def namesakes(*folders):
    """The names of public classes that are defined more than once, outside the specimens.

    Those are written as strangers write them, with the names that strangers choose.
    """
    found = defaultdict(list)
    for folder in folders:
        for name, places in classes(folder).items():
            found[name] += [place for place in places if "oracle/specimens/" not in place]
    return {name: places for name, places in found.items() if len(places) > 1}


def test_no_two_public_classes_share_a_name_without_a_reason():
    found = namesakes(ROOT / "mltk", ROOT / "backends")
    assert {name: places for name, places in found.items() if name not in NAMESAKES} == {}


def test_two_classes_of_one_name_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "a.py").write_text("class Door:\n    class Key: ...\n\n\nclass _Hinge: ...\n")
    (tmp_path / "b.py").write_text("class Door: ...\n\n\nclass Key: ...\n\n\nclass _Hinge: ...\n")
    assert namesakes(tmp_path) == {"Door": ["a.py", "b.py"]}
