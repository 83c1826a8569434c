"""The page of the check shows what the command really prints, and that of mistakes the whole catalogue."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mltk.oracle.mistakes.page import markdown

MLTK = [sys.executable, "-c", "from mltk.cli import main; main()"]
ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
CANDIDATE = re.search(r"```python\n(import torch.*?)```", PAGE, re.S)[1]
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


def report(text, folder):
    """The status of the check and the lines of its report before the failing case; numbers are left out."""
    (folder / "my_maml.py").write_text(text, encoding="utf-8")
    command = [*MLTK, "oracle", "check", "my_maml.py:maml"]
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


def test_the_page_has_the_consumer_of_test_vectors():
    assert (ROOT / "tests" / "vectors_consumer.py").read_text(encoding="utf-8") in PAGE


def test_the_page_of_mistakes_is_the_catalogue():
    """If it is not: mltk oracle mistakes --markdown > docs/mistakes.md."""
    assert (ROOT / "docs" / "mistakes.md").read_text(encoding="utf-8") == markdown()
