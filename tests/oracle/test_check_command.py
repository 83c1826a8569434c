"""The command `mltk oracle`."""

import dataclasses
import json

from oracle_cases import CANDIDATES, few_cases, few_vectors, maml_case, verdict  # noqa: F401
from typer.testing import CliRunner

from mltk.cli import app
from mltk.oracle import vectors
from mltk.oracle.computations import computation, computations


def command(*arguments):
    return CliRunner().invoke(app, ["oracle", *arguments])


def test_the_command_says_right_wrong_and_impossible():
    fast = ("--arrays", "numpy", "--examples", "5")
    right = command("check", f"{CANDIDATES}:right", *fast)
    assert (right.exit_code, "correct" in right.stdout) == (0, True)
    wrong = command("check", f"{CANDIDATES}:double_loss", "-c", "maml", *fast)
    assert (wrong.exit_code, "wrong" in wrong.stdout) == (1, True)
    assert "candidate = load(" in wrong.stdout
    for arguments, text in [
        ((f"{CANDIDATES}:unsupported", *fast), "only by hand"),
        ((f"{CANDIDATES}:nothing_there", *fast), "has no function"),
        (("no_such_module:f", *fast), "there is no module"),
        ((f"{CANDIDATES}:right", "-c", "mamml", *fast), "computation is 'mamml'"),
    ]:
        impossible = command("check", *arguments)
        assert (impossible.exit_code, text in impossible.output) == (2, True)
        assert "Traceback" not in impossible.output


def test_the_command_prints_json():
    done = command("check", f"{CANDIDATES}:prints", "--arrays", "numpy", "--examples", "0", "--json")
    assert json.loads(done.stdout)["passed"] is True
    assert done.stderr == ""  # quiet where nobody looks


def test_the_command_lists_what_can_be_checked():
    listed = command("computations").stdout
    assert [name for name in computations() if name not in listed] == []
    assert "(params" in listed


def test_the_command_shows_mistakes():
    assert "first-order" in command("mistakes").stdout
    shown = command("mistakes", "first-order").stdout
    assert "formula" in shown
    assert "usual cause" in shown
    unknown = command("mistakes", "no-such-mistake")
    assert unknown.exit_code != 0
    assert "first-order" in unknown.output


def small_computation(monkeypatch):
    """A computation whose vectors take no time."""
    maml = computation("maml")
    case = dataclasses.replace(maml_case("only", 1, sizes=(1, 1, 1)), expected={}, condition=1.0)
    small = dataclasses.replace(maml, name="small")
    monkeypatch.setattr(vectors, "stored", lambda name: (case,))
    monkeypatch.setattr("mltk.oracle.computations.computations", lambda: {"small": small})


def test_the_command_writes_and_compares_vectors(monkeypatch, tmp_path):
    small_computation(monkeypatch)
    first = command("vectors", "--out", str(tmp_path / "a"), "--regenerate")
    assert first.exit_code == 0
    assert "small.json" in first.stdout
    again = ("vectors", "--out", str(tmp_path / "b"), "--only", "small", "--compare", str(tmp_path / "a"))
    again = (*again, "--regenerate")
    assert command(*again).exit_code == 0
    file = tmp_path / "a" / "small.json"
    file.write_text(file.read_text() + " ")
    different = command(*again)
    assert different.exit_code == 1
    assert "small.json is not the same" in different.output
    file.unlink()
    assert command(*again).exit_code == 1
