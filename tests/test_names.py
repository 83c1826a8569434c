"""Names that people are told are there."""

import builtins
import re
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import mltk_backends.torch
import pytest
from torch import nn
from torch.utils import data as torch_data

import mltk
from mltk import algorithms, data, errors, evaluation, heads, models, ops, optim
from mltk.optim import transforms

ROOT = Path(__file__).parent.parent
PUBLIC = (
    *("backend", "backend_of", "Episode", "train", "evaluate", "load_run", "__version__"),
    *("models", "algorithms", "optim", "data", "heads", "ops", "tree", "evaluation", "oracle"),
    *("Module", "clone_module", "update_module", "detach_module", "meta_grad", "magic_box", "surrogate"),
    *("LearnableOptimizer", "RidgeRegression", "ridge_regression", "matching_loss"),
    *("matching_log_probabilities", "pairwise_cosine_similarity", "pairwise_sqeuclidean"),
)
CONTENTS = (mltk, algorithms, data, evaluation, heads, models, ops, optim, transforms, mltk_backends.torch)
DOTTED = re.compile(r"`(mltk(?:_backends)?(?:\.[A-Za-z_]\w*)+)[`(]")


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
        *ROOT.glob("docs/*.md"),
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
