"""Evaluation by several processes: the same bits, however many, and clear ends."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sent_to_processes import Flat, ends, peculiar, product

import mltk
from mltk.errors import NotFiniteError, RunError, SettingError
from mltk.evaluation.in_processes import in_processes

NUMPY = mltk.backend("numpy")
LEARNER = mltk.algorithms.MAML(mltk.models.mlp([784, 8, 3]), "cross_entropy", inner_lr=0.1)


@pytest.mark.parametrize(("name", "batch", "counts"), [("numpy", 45, (1, 3)), ("torch", 7, (2,))])
def test_the_result_is_the_same_to_the_bit(name, batch, counts):
    backend = mltk.backend(name)
    runs = [LEARNER.init(backend, seed) for seed in range(2)]
    evaluated = partial(mltk.evaluate, LEARNER, runs, Flat(), episodes=90, seed=3, batch=batch)
    alone = evaluated()
    for workers in counts:
        found = evaluated(workers=workers)
        np.testing.assert_array_equal(found.by_run, alone.by_run)
        np.testing.assert_array_equal(found.classes, alone.classes)
        np.testing.assert_array_equal(found.groups, alone.groups)
        assert (found.metric, found.transductive) == (alone.metric, alone.transductive)


def test_all_of_a_table_but_the_seconds_is_the_same_to_the_bit():
    # So small that a matrix product is of one thread in this process, too.
    tasks, embedding = mltk.data.Blobs(ways=3, shots=1, queries=4, features=5), mltk.models.mlp([5, 4])
    learners = {"matching": mltk.algorithms.Matching(embedding), "ridge": mltk.RidgeRegression(embedding)}
    pairs = {name: (each, each.init(NUMPY, seed=0)) for name, each in learners.items()}
    evaluator = mltk.MetaLearningEvaluator(pairs, tasks, seed=3, batch=45)

    def found(workers):
        seen = []
        told = evaluator.run(90, workers=workers, progress=lambda done, *_: seen.append(done)).to_dict()
        assert (seen[0], seen[-1]) == (40, 90)  # a batch is of whole blocks
        for each in told["learners"].values():
            assert each.pop("seconds") > 0
        return told

    alone = found(None)
    assert len(set(alone["hardness"])) > 80
    for workers in (1, 2, 3):
        assert found(workers) == alone


def test_an_error_is_that_of_the_first_task_and_says_where():
    with pytest.raises(NotFiniteError, match="support_x holds NaN") as alone:
        mltk.evaluate(LEARNER, LEARNER.init(NUMPY, 0), Flat(broken=True), episodes=100)
    with pytest.raises(NotFiniteError, match="support_x holds NaN") as raised:
        mltk.evaluate(LEARNER, LEARNER.init(NUMPY, 0), Flat(broken=True), episodes=100, workers=2)
    assert str(raised.value) == str(alone.value)
    assert "in a worker process:" in raised.value.__notes__[0]


def test_results_come_in_order_however_many_processes():
    assert list(in_processes(product, range(3), 9, factor=3)) == [0, 3, 6]
    assert list(in_processes(product, [], 2, factor=3)) == []


def test_errors_that_cannot_be_sent_are_told():
    with pytest.raises(RunError, match="in a worker process, Peculiar: very odd"):
        list(in_processes(peculiar, [0], 1))


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_process_that_is_killed_is_an_error():
    with pytest.raises(RunError, match=r"was killed by SIGKILL\nif the memory was"):
        list(in_processes(ends, range(4), 1, how=signal.SIGKILL))


class Here:
    """Like a class of a script."""

    def adapt(self, *arguments):
        """Nothing."""

    predict = sample = adapt


def test_what_cannot_be_sent_is_named(monkeypatch):
    tasks = Flat()
    tasks.hook = lambda: None
    with pytest.raises(SettingError, match="tasks cannot be sent to other processes"):
        mltk.evaluate(LEARNER, LEARNER.init(NUMPY, 0), tasks, episodes=30, workers=2)
    monkeypatch.setattr(Here, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "Here", Here, raising=False)
    with pytest.raises(SettingError, match="algorithm holds what the script or notebook itself defines"):
        mltk.evaluate(Here(), {}, Flat(), episodes=30, workers=2, backend=NUMPY)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_workers_are_counted(workers):
    with pytest.raises(SettingError, match="workers is"):
        mltk.evaluate(LEARNER, LEARNER.init(NUMPY, 0), Flat(), episodes=30, workers=workers)
    with pytest.raises(SettingError, match="workers is"):
        mltk.MetaLearningEvaluator({"maml": (LEARNER, LEARNER.init(NUMPY, 0))}, Flat()).run(
            30, workers=workers
        )


def script(folder, text):
    Path(folder, "script.py").write_text(textwrap.dedent(text))
    path = os.pathsep.join([str(Path(__file__).parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    return subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_script_needs_no_guard_and_its_folder_is_searched(tmp_path):
    Path(tmp_path, "own.py").write_text(
        "from mltk.algorithms import Prototypical\nclass Own(Prototypical):\n    pass\n"
    )
    process = script(
        tmp_path,
        """
        import mltk
        from own import Own
        learner = Own(mltk.models.Sequential([]))
        tasks = mltk.data.Blobs(ways=3, shots=1, queries=2)
        print(mltk.evaluate(learner, {}, tasks, episodes=50, backend=mltk.backend("numpy"), workers=2))
        """,
    )
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert output.startswith("accuracy ")
    assert output.count("accuracy") == 1


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_ends_all(tmp_path):
    process = script(
        tmp_path,
        f"""
        from sent_to_processes import waits
        from mltk.evaluation.in_processes import in_processes
        list(in_processes(waits, range(8), 2, folder={str(tmp_path)!r}))
        """,
    )

    def workers():
        return [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]

    for _ in range(600):
        if len(workers()) == 2:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert len(workers()) == 2  # none was begun after it
    for each in workers():
        with pytest.raises(ProcessLookupError):
            os.kill(each, 0)
