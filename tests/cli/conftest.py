"""What the tests of commands share."""

from functools import cache

import pytest
from typer.testing import CliRunner

from mltk.cli import app
from mltk.data import Glyphs

DRAWN = cache(Glyphs._load)


@pytest.fixture(autouse=True)
def _glyphs_are_drawn_once(monkeypatch):
    """Drawing them takes longer than most of what is done with them here."""
    monkeypatch.setattr(Glyphs, "_load", DRAWN)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])
