"""The subcommands `mltk toolkit …`."""

import re

import pytest
from typer.testing import CliRunner

import mltk
from mltk.cli import app

pytest.importorskip("sklearn", reason="needs the extra toolkit")


@pytest.fixture(autouse=True)
def wide(monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def run(*words):
    return CliRunner().invoke(app, ["toolkit", *(str(word) for word in words)])


def test_learners_are_trained_chosen_from_and_reported_on():
    words = ("train", "prototypical", "maml", "--data", "blobs", "--out", "both", "--episodes", 40)
    done = run(*words, "--steps", 5, "--records", "records.sqlite")
    assert done.exit_code == 0, done.output
    assert "Decisions between prototypical, maml" in done.output
    assert "mltk toolkit report both" in done.output
    chosen = run("select", "both")
    assert chosen.exit_code == 0, chosen.output
    assert re.search(r"Evidence of 2 learners on 40 tasks", chosen.output)
    said = done.output[done.output.index("Decisions") :].partition("both:")[0]
    assert said in chosen.output  # the same decisions are learned again
    page = run("report", "both", "--out", "page.html", "--episodes", 20)
    assert page.exit_code == 0, page.output
    toolkit = mltk.MetaLearningToolkit.load("both")
    assert toolkit.runs["maml"].steps == 5
    longer = run(*words, "--steps", 6)
    assert longer.exit_code == 0, longer.output
    assert mltk.MetaLearningToolkit.load("both").runs["maml"].steps == 6
    with mltk.Records("records.sqlite") as records:
        assert records.sql("SELECT count(*) FROM records WHERE metric = 'accuracy'") == [(80,)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("select", "nowhere"), "nowhere/toolkit.json"),
        (("train", "rigde", "--data", "blobs", "--out", "x"), "did you mean 'ridge'"),
        (("train", "ridge", "ridge", "--data", "blobs", "--out", "x"), "different names"),
        (("train", "ridge", "--data", "images", "--out", "x"), "needs --folder"),
        (("train", "maml", "--data", "navigation", "--out", "x"), "in which learners act"),
        (("train", "matching", "--data", "sinusoid", "--out", "x"), "is for classification"),
    ],
)
def test_what_does_not_fit_is_said(words, message):
    done = run(*words)
    assert done.exit_code != 0
    assert message in done.output
    assert "Traceback" not in done.output
