"""What trainings say while they work, on the command line and in Python."""

import os
import pty
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

import mltk
from mltk.progress import StepLines, duration

MLTK = [sys.executable, "-c", "from mltk.cli import main; main()"]


def test_off_a_terminal_progress_is_a_few_plain_lines(tmp_path):
    words = ["train", "maml", "--data", "sinusoid", "--steps", "400"]
    done = subprocess.run([*MLTK, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stderr + done.stdout
    steps = [
        int(step)
        for step in re.findall(r"^maml: step (\d+)/400, loss \d\S*, \d:\d\d left$", done.stderr, re.M)
    ]
    assert len(steps) == len(done.stderr.splitlines())
    assert 15 <= len(steps) <= 22
    assert steps[-1] == 400
    assert done.stdout.startswith("400 meta-iterations in 0:0")


def on_a_terminal(command, folder):
    """What a command that succeeds says on the standard error, which is a terminal."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        command, cwd=folder, stderr=theirs, stdout=subprocess.PIPE, env=environment
    ) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # how a pseudo-terminal ends on Linux
                break
            if not part:
                break
            said += part
    os.close(ours)
    assert process.returncode == 0
    return " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", " ", said.decode()).split())


def test_on_a_terminal_progress_is_a_bar_with_loss_and_time_left(tmp_path):
    words = ["train", "maml", "--data", "sinusoid", "--steps", "300"]
    said = on_a_terminal([*MLTK, *words], tmp_path)
    assert re.search(r"maml ━+ 300/300 loss \d\.\d+ 0?0:00 left", said)


PYTHON = """
import sys, mltk
maml = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")
options = {"backend": mltk.backend("numpy"), "steps": 100}
mltk.train(maml, mltk.data.Sinusoid(5, 5), progress=eval(sys.argv[1]), **options)
"""


def test_in_python_progress_is_shown_on_a_terminal_unless_told_otherwise(tmp_path):
    code = [sys.executable, "-c", PYTHON]
    assert re.search(r"MAML ━+ 100/100 loss \d\.\d+ 0?0:00 left", on_a_terminal([*code, "None"], tmp_path))
    assert on_a_terminal([*code, "False"], tmp_path) == ""


def train(**options):
    maml = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")
    return mltk.train(maml, mltk.data.Sinusoid(5, 5), backend=mltk.backend("numpy"), steps=40, **options)


def test_in_python_off_a_terminal_nothing_is_said_unless_asked_for(capsys):
    train()
    train(progress=False)
    assert capsys.readouterr() == ("", "")
    train(progress=True)
    said, errors = capsys.readouterr()
    assert said == ""
    assert errors.splitlines()[-1].startswith("MAML: step 40/40, loss ")


class Shell:
    """What IPython's shell is in a notebook."""

    kernel = object()


def test_in_a_notebook_one_line_is_replaced(monkeypatch, capsys):
    shown = []

    class Handle:
        def update(self, bundle, *, raw):
            assert raw
            shown[-1] = bundle

    def display(bundle, *, raw, display_id):
        assert raw
        assert display_id
        shown.append(bundle)
        return Handle()

    ipython = SimpleNamespace(get_ipython=Shell, display=SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    train()
    assert len(shown) == 1
    assert shown[0]["text/plain"].startswith("MAML: step 40/40, loss ")
    train(progress=False)
    assert len(shown) == 1
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
@pytest.mark.parametrize("number", [1, 2], ids=["stdout", "stderr"])
@pytest.mark.parametrize("how", ["closed", "full", "gone"])
def test_a_closed_or_full_output_ends_no_training(how, number, tmp_path):
    words = ["train", "maml", "--data", "sinusoid", "--steps", "40", "--out", "run"]
    reader, writer = os.pipe()
    os.close(reader)  # what is written into a pipe that nobody reads fails
    full = os.open("/dev/full", os.O_WRONLY)

    def spoil():
        if how == "closed":
            os.close(number)
        else:
            os.dup2(full if how == "full" else writer, number)

    done = subprocess.run(
        [sys.executable, "-m", "mltk_command", *words],
        cwd=tmp_path,
        capture_output=True,
        preexec_fn=spoil,
        text=True,
        check=False,
    )
    os.close(writer)
    os.close(full)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert mltk.load_run(tmp_path / "run").run.steps == 40
    assert ("40 meta-iterations" in done.stdout) == (number == 2)


def test_a_closed_standard_error_ends_no_training_in_python(monkeypatch, tmp_path):
    file = (tmp_path / "errors").open("w")
    file.close()
    monkeypatch.setattr(sys, "stderr", file)
    assert train(progress=True).steps == 40
    monkeypatch.setattr(sys, "stderr", None)
    assert train(progress=True).steps == train().steps == 40


def test_plain_lines_tell_trainings_apart_and_skip_what_is_not_news(capsys):
    lines = StepLines(sys.stdout)
    for step in range(0, 101):
        lines("a", step, 100, None if step == 0 else 2.0)
        lines("b", step, 100, None if step == 0 else 0.123456)
    said = capsys.readouterr().out.splitlines()
    assert len([line for line in said if line.startswith("a:")]) == 21
    assert said[-1] == "b: step 100/100, loss 0.1235, 0:00 left"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00"), (7325, "2:02:05")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
