"""Processes that are asked: they answer, tell how they end, and never outlive whoever asks."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mltk.messages import LONGEST, MessageError, pack, unpack
from mltk.workers import Worker

posix = pytest.mark.skipif(os.name == "nt", reason="processes have groups and signals on POSIX alone")

ANSWERS = """
import os, subprocess, sys, time
from mltk.workers import questions
for question, answer in questions():
    exec(question["code"])
"""


def worker(program=ANSWERS, **options):
    return Worker([sys.executable, "-c", program], **options)


def code(text):
    return {"code": text}


def wait_for_the_end_of(process):
    for _ in range(100):
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except FileNotFoundError:
            return
        time.sleep(0.1)
    raise AssertionError(f"the process {process} goes on")


def test_it_answers_one_question_after_the_other_whatever_is_printed():
    with worker() as asked:
        assert asked.ask(code("print('noise'); os.system('echo noise'); answer({'a': 1})"))["a"] == 1
        assert asked.ask(code("answer({'a': sys.stdin.read()})"))["a"] == ""
        assert asked.asked == 2


def test_a_question_may_have_several_answers():
    with worker() as asked:
        found = asked.answers(code("for i in range(3): answer({'a': i})\nsys.exit(4)"))
        assert [each["a"] for each in found] == [0, 1, 2]
        assert asked.gone
    assert asked.ending() == "ended with exit status 4"


def test_an_answer_that_comes_too_late_is_not_that_of_the_next_question():
    with worker() as asked:
        assert asked.ask(code("time.sleep(1.0); answer({'a': 'late'})"), timeout=0.5) is None
        assert not asked.gone
        assert asked.ask(code("answer({'a': 'in time'})"))["a"] == "in time"


def test_arrays_come_back_as_they_are():
    arrays = {"w": np.arange(6.0).reshape(2, 3), "group": {"b": np.array([np.nan, -0.0], np.float32)}}
    echo = "from mltk.messages import pack, unpack\nanswer({'a': pack(unpack(question['a']))})"
    with worker() as asked:
        again = unpack(asked.ask(code(echo) | {"a": pack(arrays)})["a"])
    for found, array in ((again["w"], arrays["w"]), (again["group"]["b"], arrays["group"]["b"])):
        assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_one_that_does_not_read_is_given_up_in_time():
    with worker("import time; time.sleep(600)") as asked:
        started = time.monotonic()
        assert asked.ask({"much": "x" * (1 << 22)}, timeout=0.5) is None
        assert time.monotonic() - started < 5


@pytest.mark.parametrize("text", ["'no JSON'", "'[1]'", "'{}'", f"'1' * {LONGEST + 1}"])
def test_what_is_no_answer_is_an_error(text):
    with worker(f"print({text}, flush=True); input()") as asked, pytest.raises(MessageError):
        asked.ask({})


def test_the_environment_is_what_it_is_given():
    with worker(environment=os.environ | {"GIVEN": "here"}) as asked:
        assert asked.ask(code("answer({'a': os.environ['GIVEN']})"))["a"] == "here"


@posix
@pytest.mark.parametrize(
    ("text", "ending"),
    [
        ("sys.exit('one\\n\\ntwo\\nthree\\nfour')", "ended with exit status 1"),
        ("print('one\\n\\ntwo\\nthree\\nfour', flush=True); os.abort()", "was killed by SIGABRT"),
    ],
)
def test_its_last_words_are_told(text, ending):
    with worker() as asked:
        assert asked.ask(code(text)) is None
        assert asked.gone
    assert asked.ending() == f"{ending}\n  printed: two\n  printed: three\n  printed: four"


CHILD = "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid\n"
HANGS = "answer({'child': child, 'self': os.getpid()}); time.sleep(600)"


@posix
def test_it_is_killed_with_its_children():
    with worker() as asked:
        child = asked.ask(code(f"{CHILD}{HANGS}"))["child"]
    wait_for_the_end_of(child)


@posix
@pytest.mark.parametrize("deaf", ["", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=str)
def test_it_ends_with_whoever_asks_even_when_it_hangs_and_its_children_do(number, deaf):
    asks = (
        "import sys\nfrom mltk.workers import Worker\n"
        f"found = Worker([sys.executable, '-c', {ANSWERS!r}]).ask({code(deaf + CHILD + HANGS)!r})\n"
        "print(found['self'], found['child'], flush=True)\nimport time; time.sleep(600)"
    )
    asking = subprocess.Popen([sys.executable, "-c", asks], stdout=subprocess.PIPE, text=True)
    processes = asking.stdout.readline().split()
    asking.send_signal(number)
    asking.communicate()
    for process in processes:
        wait_for_the_end_of(process)


@posix
def test_one_that_is_to_end_may_say_something_first():
    last = (
        "import signal\ndef end(*_): answer({'a': 'last'}); sys.exit(5)\n"
        "signal.signal(signal.SIGTERM, end); answer({'a': 'first'}); time.sleep(600)"
    )
    with worker() as asked:
        answers = asked.answers(code(last))
        assert next(answers)["a"] == "first"
        asked.terminate()
        assert [each["a"] for each in answers] == ["last"]
    assert asked.ending() == "ended with exit status 5"


@posix
def test_a_signal_in_the_middle_of_an_answer_may_say_something_too():
    last = (
        "import signal\ndef end(*_): answer({'a': 'last'}); sys.exit(5)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "lock = dict(zip(answer.__code__.co_freevars, answer.__closure__))['lock'].cell_contents\n"
        "lock.acquire()  # as in the middle of an answer\n"
        "try: os.kill(os.getpid(), signal.SIGTERM); time.sleep(600)\n"
        "except SystemExit: lock.release(); answer({'a': 'first'}); raise\n"
    )
    with worker() as asked:
        assert [each["a"] for each in asked.answers(code(last), 20)] == ["last", "first"]


def test_a_program_that_does_not_exist_is_an_error_of_the_system():
    with pytest.raises(OSError, match="no-such-program"):
        Worker(["no-such-program"])
