"""The documentation site is built without a warning, and what docstrings show runs."""

import doctest
import os
import re
import subprocess
import sys
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


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="the site is built where the extra docs is installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_is_built_without_a_warning(site):
    written = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    written += [Path("learn", path.name) for path in (ROOT / "notebooks").glob("*.ipynb")]
    for page in written:
        folder = page.parent if page.stem == "index" else page.with_suffix("")
        assert (site / folder / "index.html").is_file(), page


def test_examples_are_shown_as_code(site):
    shown = []
    for page in site.glob("**/index.html"):
        for section in page.read_text().split('<span class="doc-section-title">Examples:</span>')[1:]:
            code = re.search(
                r'<div class="highlight"><pre>(.*?)</pre>', section.partition("<details")[0], re.S
            )
            assert code is not None, page
            shown.append(re.sub(r"<[^>]*>", "", code[1]))
    assert len(shown) >= 4
    assert all(example.startswith("&gt;&gt;&gt; import mltk") for example in shown)


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
