"""Candidates in any language: programs that answer lines of JSON, and what the check says of them."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mltk.cli import app
from mltk.oracle import CandidateError, Command, check, vectors
from mltk.oracle.candidate.command import as_message
from mltk.oracle.candidate.request import request
from mltk.oracle.computations import computation, computations
from mltk.oracle.report_text import to_text

PROGRAM = Path(__file__).with_name("command_candidate.py")
PAGE = (Path(__file__).parents[2] / "docs" / "check.md").read_text(encoding="utf-8")
NODE = shutil.which("node")
WHERE = ["distance=sqeuclidean", "max_temperature=9"]


def program(how):
    return Command(shlex.join([sys.executable, str(PROGRAM), how]))


def verdict(how, **options):
    options = {"examples": 0, "where": WHERE, **options}
    report = check(program(how), ["prototypical"], **options)
    assert to_text(report)
    (found,) = report.verdicts
    return found


def oracle(*arguments):
    return CliRunner().invoke(app, ["oracle", *arguments])


@pytest.mark.parametrize("how", ["right", "bare"])
def test_a_right_program_is_correct(how):
    found = verdict(how, examples=10)
    assert (found.verdict, found.outputs) == ("correct", ("logits",))
    assert found.rests_on == found.of > 10
    assert found.worst_error < 1e-13


def test_a_program_is_given_single_precision():
    assert verdict("right", dtype="float32").verdict == "correct"


def test_the_mistake_of_a_program_is_named():
    found = verdict("sums", examples=10)
    assert (found.verdict, found.diagnosis.names) == ("wrong", ("prototype-by-sum",))


def test_what_a_program_cannot_do_is_skipped():
    some = verdict("right", where=())
    assert some.verdict == "correct"
    assert 0 < some.rests_on < some.of
    assert "distance=cosine" in some.never_run
    assert verdict("nothing").verdict == "skipped"


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("error", "raises", "no such matrix"),
        ("empty", "malformed", "none of outputs, unsupported and error"),
        ("words", "malformed", "no numbers"),
        ("huge", "malformed", "no numbers"),
        ("no-id", "malformed", "has no id"),
        ("noise", "malformed", "the line 'adapting …' is no message"),
        ("infinite", "not-finite", "NaN or infinity in loss"),
        ("shape", "wrong-shapes", "logits has shape"),
        ("drifts", "keeps-state", "differs by"),
        ("crash", "crashes", "ended with exit status 3\n  printed: out of luck"),
        ("hang", "hangs", "no answer within 1 seconds: is each line flushed"),
    ],
)
def test_faults_of_programs_have_their_names(how, kind, message):
    found = verdict(how, timeout=1)
    assert found.verdict == kind
    assert message in found.message


def test_a_command_that_cannot_be_started_is_refused():
    for text, message in [
        ("no-such-program here", "no-such-program cannot be started"),
        ("", "the command is empty"),
        ("node 'my.js", "No closing quotation"),
    ]:
        with pytest.raises(CandidateError, match=message):
            check(Command(text), ["mse"], examples=0)
        done = oracle("check", "--command", text, "--examples", "0")
        assert (done.exit_code, message in done.output, "Traceback" in done.output) == (2, True, False)


def test_either_a_candidate_or_a_command_is_checked():
    for arguments in ((), ("my.py:f", "--command", "node my.js")):
        done = oracle("check", *arguments)
        assert done.exit_code == 2
        assert "either a candidate or --command" in " ".join(done.output.replace("│", " ").split())


def test_the_command_line_checks_programs():
    where = [word for text in WHERE for word in ("--where", text)]
    options = ("-c", "prototypical", "--examples", "0", *where)
    right = oracle("check", "--command", program("right").text, *options, "--json")
    content = json.loads(right.stdout)
    assert (right.exit_code, content["passed"], content["arrays"]) == (0, True, "json")
    wrong = oracle("check", "--command", program("sums").text, *options)
    assert (wrong.exit_code, "prototype-by-sum" in wrong.stdout) == (1, True)


def test_a_request_is_json_for_every_reader():
    """No NaN and no infinity, which are Python's own words."""

    def refuse(word):
        raise AssertionError(word)

    lost = 0
    for name in computations():
        for case in vectors.stored(name):
            asked = request(computation(name), case)
            message = as_message(asked, "float64")
            again = json.loads(json.dumps(message), parse_constant=refuse)
            for key, array in case.inputs.items():
                if isinstance(array, np.ndarray):
                    back = np.asarray(again["inputs"][key], float)
                    same = (back == array) | (np.isnan(back) & ~np.isfinite(array))
                    assert same.all()
                    lost += np.isnan(back).sum()
    assert lost > 0


def run_elsewhere(code, folder):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{code}\n{done.stderr}"
    return done.stdout


def test_the_failing_case_of_a_program_runs_in_another_folder(tmp_path, monkeypatch):
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    shutil.copy(PROGRAM, home / "mine.py")
    monkeypatch.chdir(home)
    command = Command(shlex.join([sys.executable, "mine.py", "sums"]))
    (found,) = check(command, ["prototypical"], examples=10, where=WHERE).verdicts
    printed = run_elsewhere(found.snippet, other)
    shown, expected = (json.loads(text.replace("'", '"')) for text in re.findall(r"\{.*\}", printed))
    truth = found.smallest.case.expected["logits"]
    np.testing.assert_allclose(expected["logits"], truth)
    np.testing.assert_allclose(shown["outputs"]["logits"], found.smallest.outputs["logits"])
    assert not np.allclose(shown["outputs"]["logits"], truth)
    (state,) = check(
        Command(shlex.join([sys.executable, "mine.py", "drifts"])), ["prototypical"], examples=0, where=WHERE
    ).verdicts
    first, second = (
        json.loads(text) for text in re.findall(r'\{"id.*\}', run_elsewhere(state.snippet, other))
    )
    difference = np.subtract(second["outputs"]["logits"], first["outputs"]["logits"])
    assert difference.max() == pytest.approx(0.01)


def test_the_failing_case_of_a_function_runs_in_another_folder(tmp_path, monkeypatch):
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    (home / "mine.py").write_text("def head(params, data, settings):\n    return 0 * data.query_x[..., :1]\n")
    monkeypatch.chdir(home)
    (found,) = check("mine.py:head", ["prototypical"], arrays="numpy", examples=0).verdicts
    assert found.snippet is not None
    assert "found" in run_elsewhere(found.snippet, other)


@pytest.mark.parametrize("how", ["sums", "right"])
def test_a_check_leaves_nothing_where_it_is_run(how, tmp_path):
    code = "import sys; from mltk.cli import main; main()"
    arguments = ["oracle", "check", "--command", program(how).text, "-c", "prototypical", "--examples", "20"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == (how == "sums"), done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_vectors_are_copied_byte_for_byte(tmp_path):
    done = oracle("vectors", "--out", str(tmp_path))
    assert done.exit_code == 0
    packaged = resources.files("mltk.oracle") / "vectors"
    assert {path.stem for path in tmp_path.iterdir()} == {*computations()}
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (packaged / path.name).read_bytes()
    again = ("vectors", "--only", "mse", "--out", str(tmp_path / "b"), "--compare", str(tmp_path))
    assert oracle(*again, "--regenerate").exit_code == 0


@pytest.mark.skipif(NODE is None, reason="there is no node")
def test_the_program_of_the_page_is_correct(tmp_path):
    text = re.search(r"```js\n(.*?)```", PAGE, re.S)[1]
    (tmp_path / "my.js").write_text(text, encoding="utf-8")
    command = Command(shlex.join([str(NODE), str(tmp_path / "my.js")]))
    (found,) = check(command, ["prototypical"], examples=10).verdicts
    assert found.verdict == "correct"
    assert 0 < found.rests_on < found.of
    (tmp_path / "my.js").write_text(text.replace("/ own.length", ""), encoding="utf-8")
    (wrong,) = check(command, ["prototypical"], examples=10).verdicts
    assert wrong.diagnosis.names == ("prototype-by-sum",)
