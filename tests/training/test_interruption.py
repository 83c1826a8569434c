"""Ctrl-C and SIGTERM end a training between two steps, with a checkpoint and a word on how to go on."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from run_contents import assert_same_run

import mltk
from mltk.training.interruption import TerminatedError, terminating
from mltk.training.run_folder import RunFolder

LEARNER = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse")
TASKS = mltk.data.Sinusoid(shots=5, queries=5)
NUMPY = mltk.backend("numpy")
ENDS = {
    signal.SIGINT: (KeyboardInterrupt, "SIGINT"),
    signal.SIGTERM: (TerminatedError, "SIGTERM"),
    signal.SIGHUP: (TerminatedError, "SIGHUP"),
}


class Ahead:
    """A source that is sampled in a thread of its own."""

    prefetch = True

    def sample(self, n_tasks, rng, backend):
        return TASKS.sample(n_tasks, rng, backend)


def train(out, *, tasks=TASKS, learner=LEARNER, **options):
    settings = {"backend": NUMPY, "steps": 20, "log_every": 1, "checkpoint_every": 5, "out": out} | options
    return mltk.train(learner, tasks, **settings)


def at(step, number):
    """A progress that sends a signal once a step is logged."""
    return lambda now, steps, loss: signal.raise_signal(number) if now == step else None


@pytest.mark.parametrize("tasks", [TASKS, Ahead()], ids=["plain", "prefetch"])
@pytest.mark.parametrize("number", ENDS)
def test_a_signal_ends_a_training_with_a_checkpoint_of_that_very_step(number, tasks, tmp_path, capsys):
    kind, name = ENDS[number]
    train(tmp_path / "straight", tasks=tasks)
    with pytest.raises(kind) as caught:
        train(tmp_path / "stopped", tasks=tasks, progress=at(7, number))
    said = str(caught.value) if number == signal.SIGINT else capsys.readouterr().err
    assert f"stopped by {name} after step 7 of 20" in said
    assert "resume=True" in said
    assert str(tmp_path / "stopped" / "checkpoint.npz") in said
    assert RunFolder(tmp_path / "stopped").read_checkpoint().step == 7
    if kind is TerminatedError:
        assert caught.value.code == 128 + number
    train(tmp_path / "stopped", tasks=tasks, resume=True)
    assert_same_run(tmp_path / "stopped", tmp_path / "straight")


def test_a_signal_in_the_last_step_loses_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="after step 20 of 20"):
        train(tmp_path, progress=at(20, signal.SIGINT))
    assert train(tmp_path, resume=True).steps == 20


class Twice:
    """A learner in whose ninth step Ctrl-C is pressed twice, since it takes so long."""

    def __init__(self):
        self.left = 9

    def init(self, backend, seed):
        return LEARNER.init(backend, seed)

    def value_and_grad(self, meta_params, episode):
        self.left -= 1
        if not self.left:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("the second one should have struck at once")
        return LEARNER.value_and_grad(meta_params, episode)


def test_a_second_ctrl_c_strikes_at_once_and_leaves_the_checkpoint_before(tmp_path):
    with pytest.raises(KeyboardInterrupt, match="at once"):
        train(tmp_path, learner=Twice())
    assert RunFolder(tmp_path).read_checkpoint().step == 5


def test_handlers_are_given_back_and_the_users_own_are_left_alone(tmp_path):
    before = {number: signal.getsignal(number) for number in ENDS}
    train(tmp_path / "one")
    assert {number: signal.getsignal(number) for number in ENDS} == before
    received = []
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        run = train(tmp_path / "two", progress=at(7, signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before[signal.SIGTERM])
    assert (received, run.steps) == ([signal.SIGTERM], 20)


def test_a_signal_that_ends_a_process_is_an_error_while_others_depend_on_it():
    before = {number: signal.getsignal(number) for number in ENDS}
    for number, (kind, _) in ENDS.items():
        with pytest.raises(kind), terminating():
            signal.raise_signal(number)
        assert {number: signal.getsignal(number) for number in ENDS} == before
    received = []
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with terminating():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before[signal.SIGTERM])
    assert received == [signal.SIGTERM]


def test_without_a_folder_ctrl_c_strikes_at_once():
    reached = []

    def progress(step, steps, loss):
        reached.append(step)
        if step == 7:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(None, progress=progress)
    assert reached[-1] == 7


def test_a_training_in_another_thread_leaves_signals_alone(tmp_path):
    done = []
    thread = threading.Thread(target=lambda: done.append(train(tmp_path)))
    thread.start()
    thread.join()
    assert done[0].steps == 20


STRIKE = """
import os, signal, sys
from mltk.training.run_folder import RunFolder
append = RunFolder.append_metrics
def strike(self, line):
    append(self, line)
    if line["step"] == 63:
        signal.raise_signal(signal.Signals[os.environ["STRIKE"]])
RunFolder.append_metrics = strike
from mltk.cli import main
main()
"""
MLTK = [sys.executable, "-m", "mltk_command"]


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_the_command_says_how_to_resume_and_that_ends_where_an_uninterrupted_run_ends(name, status, tmp_path):
    words = ["train", "maml", "--data", "sinusoid", "--steps", "100", "--seed", "2"]
    stopped = subprocess.run(
        [sys.executable, "-c", STRIKE, *words],
        cwd=tmp_path,
        env=os.environ | {"STRIKE": name},
        capture_output=True,
        text=True,
        check=False,
    )
    assert stopped.returncode == status
    assert "Traceback" not in stopped.stderr
    command = stopped.stderr.partition("continue with:\n  mltk ")[2].splitlines()[0]
    assert command == f"{' '.join(words)} --out runs/maml-sinusoid --resume"
    assert RunFolder(tmp_path / "runs/maml-sinusoid").read_checkpoint().step == 63
    subprocess.run([*MLTK, *command.split()], cwd=tmp_path, capture_output=True, check=True)
    subprocess.run([*MLTK, *words, "--out", "straight"], cwd=tmp_path, capture_output=True, check=True)
    assert_same_run(tmp_path / "runs/maml-sinusoid", tmp_path / "straight")


def test_ctrl_c_before_there_is_a_command_says_nothing():
    code = (
        "import mltk.cli, mltk_command\n"
        "def interrupted():\n"
        "    raise KeyboardInterrupt\n"
        "mltk.cli.main = interrupted\n"
        "mltk_command.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_ctrl_c_while_the_library_is_imported_says_nothing():
    code = (
        "import os, signal, sys, mltk_command\n"
        "class Slow:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'mltk.cli.commands':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "mltk_command.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")
