"""What docstrings show runs."""

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

import mltk
from mltk.optim import transforms

ROOT = Path(__file__).parent.parent
SOURCES = [
    (path, ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"))
    for package, folder in (("mltk", ROOT / "mltk"), ("mltk_backends", ROOT / "backends"))
    for path in sorted(folder.rglob("*.py"))
]
SHOWING = [name for path, name in SOURCES if ">>>" in path.read_text()]
SHOWING_TORCH = [name for path, name in SOURCES if ">>> import torch" in path.read_text()]


@pytest.mark.parametrize("name", SHOWING)
def test_what_a_docstring_shows_is_so(name):
    if name.startswith("mltk_backends.torch") or name in SHOWING_TORCH:
        pytest.importorskip("torch")
    result = doctest.testmod(import_module(name))
    assert result.attempted
    assert not result.failed


PACKAGES = (
    mltk.data,
    mltk.algorithms,
    mltk.optim,
    transforms,
    mltk.models,
    mltk.evaluation,
    mltk.task_analysis,
    mltk.toolkit,
)
WITHOUT = {  # they need files from elsewhere, or are what others return, raise or derive from
    *("CIFARFS", "ImageFolder", "Omniglot"),
    *("OnlineState", "Recalled", "Reused", "TransferMatrix"),
    *("Alignment", "ChallengeResult", "ImageTasks", "Pictures", "Returns", "Runs"),
    *("BrokenImageWarning", "MLflow", "SmallClassWarning"),
    *("Decisions", "FittedSelector", "RecoveredRun", "RecoveryWarning"),
    *("GradientTransform", "ImageDataset", "TaskSource", "Transform"),
}


def test_public_classes_show_themselves():
    public = {mltk.Episode} | {
        value
        for package in PACKAGES
        for name, value in vars(package).items()
        if isinstance(value, type) and name in getattr(package, "__all__", ("Sequential",))
    }
    silent = {each.__name__ for each in public if ">>>" not in (each.__doc__ or "")}
    assert silent == WITHOUT


def test_examples_stand_in_a_section_that_is_shown_as_code():
    for path, name in SOURCES:
        assert not re.search(r"^ *(Example|Usage|Example:|Usage:|Examples::)$", path.read_text(), re.M), name
