"""The page of the check shows what the command really prints, and that of mistakes the whole catalogue."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mltk.oracle import vectors
from mltk.oracle.catalogue.page import markdown
from mltk.oracle.computations import computations
from mltk.oracle.selection import described, varying

MLTK = [sys.executable, "-c", "from mltk.cli import main; main()"]
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
CANDIDATE = re.search(r"```python\n(import torch.*?)```", PAGE, re.S)[1]
HEAD = re.search(r"`my_head.py`:\n\n```python\n(.*?)```", PAGE, re.S)[1]
RESTRICTED = re.search(r"mltk oracle check my_head.py:head (.*)", PAGE)[1].split()
CHANGES = re.search(r"```diff\n(.*?)```", PAGE, re.S)[1].splitlines()
SHOWN = re.findall(r"```text\n(.*?)\n```", PAGE, re.S)


def spoilt():
    """The candidate with the changes of the page."""
    text = CANDIDATE
    for old, new in zip(CHANGES[::2], CHANGES[1::2], strict=True):
        assert old[0] == "-"
        assert new[0] == "+"
        assert text.count(old[1:]) == 1
        text = text.replace(old[1:], new[1:])
    return text


def report(text, folder, file="my_maml.py", arguments=("my_maml.py:maml",)):
    """The status of the check and the lines of its report before the failing case; numbers are left out."""
    (folder / file).write_text(text, encoding="utf-8")
    command = [*MLTK, "oracle", "check", *arguments]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return run.returncode, without_numbers(run.stdout.partition("The smallest failing case")[0])


def without_numbers(text):
    lines = [re.sub(r"\d+\.\d+e[+-]\d+|\d+", "#", line).split() for line in text.splitlines()]
    return [" ".join(line) for line in lines if line and set("".join(line)) != {"─"}]


@pytest.mark.parametrize(
    ("text", "shown", "status"), [(CANDIDATE, 0, 0), (spoilt(), 1, 1)], ids=["right", "wrong"]
)
def test_the_page_shows_what_the_command_prints(text, shown, status, tmp_path):
    found, lines = report(text, tmp_path)
    assert lines == without_numbers(SHOWN[shown])
    assert found == status


def test_the_page_shows_what_a_restricted_check_prints(tmp_path):
    head = ("my_head.py", ("my_head.py:head", *RESTRICTED))
    assert report(HEAD, tmp_path, *head) == (0, without_numbers(SHOWN[2]))
    status, lines = report(HEAD, tmp_path, "my_head.py", head[1][:3])
    assert status == 1
    (never_read,) = [line for line in lines if line.startswith("it never reads")]
    assert never_read in " ".join(PAGE.split())


def test_the_page_lists_the_settings_that_vary():
    rows = re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", PAGE, re.M)
    assert {name for name, _ in rows} >= {"maml", "reptile", "prototypical", "matching", "ridge", "logistic"}
    assert {name for name, _ in rows} <= {*computations()}
    for name, row in rows:
        choices = varying(vectors.stored(name)).items()
        assert row.replace("`", "") == "; ".join(described(setting, values) for setting, values in choices)


def test_the_page_has_the_consumer_of_test_vectors():
    assert (ROOT / "tests" / "oracle" / "vectors_consumer.py").read_text(encoding="utf-8") in PAGE


def test_the_page_of_mistakes_is_the_catalogue():
    """If it is not: mltk oracle mistakes --markdown > docs/mistakes.md."""
    assert (ROOT / "docs" / "mistakes.md").read_text(encoding="utf-8") == markdown()
