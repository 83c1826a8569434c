"""What the tests of commands share."""

import pytest
from typer.testing import CliRunner

from mltk.cli import app


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])
