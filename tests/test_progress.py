"""What the command `mltk` says while it works."""

import os
import pty
import re
import subprocess
import sys

import pytest

from mltk.progress import PlainLines, duration

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


def test_on_a_terminal_progress_is_a_bar_with_loss_and_time_left(tmp_path):
    ours, theirs = pty.openpty()
    words = ["train", "maml", "--data", "sinusoid", "--steps", "300"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [*MLTK, *words], cwd=tmp_path, stderr=theirs, stdout=subprocess.PIPE, env=environment
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
    plain = " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", " ", said.decode()).split())
    assert re.search(r"maml ━+ 300/300 loss \d\.\d+ 0?0:00 left", plain)


def test_plain_lines_tell_trainings_apart_and_skip_what_is_not_news(capsys):
    lines = PlainLines(sys.stdout)
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
