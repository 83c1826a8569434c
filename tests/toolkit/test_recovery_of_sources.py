"""Sources that raise in the middle of a training: asked again as if nothing were, or left out."""

import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from faults import (
    BrokenError,
    KilledError,
    Killing,
    Raising,
    Spoilt,
    without_pictures_and_waiting_for_the_disk,  # noqa: F401 - a fixture
)
from loopback_server import CONTENT, remote, running, server, worse  # noqa: F401 - fixtures
from run_contents import assert_same_run

import mltk
from mltk import tree
from mltk.data.files.downloads import Patience
from mltk.data.files.fetch import fetch_file
from mltk.data.files.registry import RemoteFile
from mltk.errors import DownloadError
from mltk.task_analysis import curricula
from mltk.toolkit import Recovery
from mltk.toolkit.recovery_log import RecoveryWarning

TASKS = mltk.data.Blobs(ways=3, shots=1, queries=2)
LEARNER = mltk.algorithms.Prototypical(mltk.models.mlp([3, 4]))
HOW = {"steps": 12, "checkpoint_every": 4}


@pytest.fixture(params=["numpy", "torch"])
def backend(request):
    return mltk.backend(request.param)


pytestmark = pytest.mark.usefixtures("without_pictures_and_waiting_for_the_disk")


def train(tasks, *, recovery=None, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecoveryWarning)
        recovery = Recovery(wait=0.0) if recovery is None else recovery
        return recovery.train(LEARNER, tasks, **{"backend": mltk.backend("numpy")} | HOW | options)


def same_outcome(found, expected):
    assert [line["loss"] for line in found.history] == [line["loss"] for line in expected.history]
    for name, leaf in tree.flatten(expected.meta_params).items():
        np.testing.assert_array_equal(tree.flatten(found.meta_params)[name], leaf)


@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("wrapped", ["plain", "curriculum"])
def test_errors_that_pass_change_nothing_and_are_written_down(backend, prefetch, wrapped):
    flaky = Raising(TASKS, (0, 5, 6, 7, 14), prefetch=prefetch)
    if wrapped == "curriculum":  # which draws as often itself
        flaky, expected = curricula.HardMining(flaky, candidates=2), curricula.HardMining(TASKS, candidates=2)
    else:
        expected = TASKS
    found = train(flaky, backend=backend)
    same_outcome(found, mltk.train(LEARNER, expected, backend=backend, **HOW))
    draws = [(event.step, event.number, event.what) for event in found.events]
    assert draws == [
        (1, 1, "BrokenError: draw 0"),
        (5, 1, "BrokenError: draw 5"),
        (5, 2, "BrokenError: draw 6"),
        (5, 3, "BrokenError: draw 7"),
        (11, 1, "BrokenError: draw 14"),
    ]
    assert {event.kind for event in found.events} == {"raised"}


def spoilt_steps(run):
    return [(event.step, event.number) for event in run.events if event.kind == "skipped"]


def test_tasks_that_never_come_are_left_out_alike_each_time(backend):
    runs = [train(Spoilt(TASKS, prefetch=prefetch), backend=backend) for prefetch in (False, True, True)]
    for run in runs[1:]:
        same_outcome(run, runs[0])
        assert run.events == runs[0].events
    gone = spoilt_steps(runs[0])
    assert gone == sorted(gone)
    assert 1 < len(gone) < 10
    for step, number in gone:  # each is asked for four times before
        raised = [event for event in runs[0].events if event.kind == "raised" and event.step == step]
        assert [event.number for event in raised][:4] == [1, 2, 3, 4], (step, number)
    assert runs[0].steps == 12


def test_other_tasks_share_no_random_numbers_with_those_left_out():
    drawn = []

    @dataclass(frozen=True)
    class Noting(Spoilt):
        def sample(self, n_tasks, rng, backend):
            copy = np.random.Generator(np.random.PCG64())
            copy.bit_generator.state = rng.bit_generator.state
            drawn.append((self.spoils(rng), copy.random(99)))
            return super().sample(n_tasks, rng, backend)

    train(Noting(TASKS, every=2), recovery=Recovery(source_retries=0, skips=99))
    replaced = [(lost, other) for (spoilt, lost), (_, other) in pairwise(drawn) if spoilt]
    assert len(replaced) > 5
    for lost, other in replaced:
        assert not np.isin(other, lost).any()


def test_how_many_are_left_out_is_bounded(tmp_path):
    gone = spoilt_steps(train(Spoilt(TASKS)))
    enough, few = (Recovery(wait=0.0, skips=len(gone) - less) for less in (0, 1))
    assert spoilt_steps(train(Spoilt(TASKS), recovery=enough)) == gone
    for _ in range(2):  # again in the same folder: what was left out before counts once
        with pytest.raises(BrokenError) as caught:
            train(Spoilt(TASKS), recovery=few, out=tmp_path)
        note = f"at step {gone[-1][0]} of the training, of which {len(gone) - 1} draws were left out"
        assert caught.value.__notes__ == [note]
    assert train(Spoilt(TASKS), recovery=enough, out=tmp_path).steps == 12


@pytest.mark.parametrize("prefetch", [False, True])
def test_a_killed_training_leaves_the_same_out(prefetch, tmp_path):
    tasks = Spoilt(TASKS, prefetch=prefetch)
    whole = train(tasks, out=tmp_path / "whole")
    with pytest.raises(KilledError):
        train(tasks, out=tmp_path / "killed", watch=Killing(7))
    again = train(tasks, out=tmp_path / "killed")
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    assert dict.fromkeys(sorted(spoilt_steps(again))) == dict.fromkeys(spoilt_steps(whole))


def test_leaving_out_is_said():
    with pytest.warns(
        RecoveryWarning, match=r"the tasks of step \d+ are left out, others are drawn: BrokenError"
    ):
        Recovery(wait=0.0).train(LEARNER, Spoilt(TASKS), backend=mltk.backend("numpy"), **HOW)


@dataclass(frozen=True)
class Downloaded:
    """Tasks whose file is fetched when it is first needed."""

    file: RemoteFile
    folder: Path
    patience = Patience(attempts=1, connect_timeout=2.0, read_timeout=0.5, backoff=0.0)

    def sample(self, n_tasks, rng, backend):
        if not isinstance(rng, int) and (self.folder / "wanted").exists():
            path = fetch_file(self.file, self.folder, progress=False, patience=self.patience)
            assert path.read_bytes() == CONTENT
        return TASKS.sample(n_tasks, rng, backend)


class WantedFrom:
    """A watcher that has the file needed after a step."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_step(self, seen):
        if seen.step == self.step:
            self.path.touch()

    def on_tasks(self, seen):
        raise AssertionError("a training is no evaluation")


def test_a_download_that_breaks_in_the_middle_of_a_training_goes_on(server, tmp_path):  # noqa: F811
    tasks = Downloaded(remote(server), tmp_path)
    options = {"watch": WantedFrom(4, tmp_path / "wanted")}
    server.script = [worse(stop=60_000), worse(stop=50_000), worse(stop=70_000)]
    found = train(tasks, **options)
    same_outcome(found, mltk.train(LEARNER, TASKS, backend=mltk.backend("numpy"), **HOW))
    assert [(event.kind, event.step, event.number) for event in found.events] == [
        ("raised", 5, n) for n in (1, 2, 3)
    ]
    assert all("broke" in event.what for event in found.events)
    assert server.sent == len(CONTENT)  # no byte twice
    (tmp_path / "file.zip").unlink()
    server.script = [worse(stop=10)] * 99
    with pytest.raises(DownloadError):
        train(tasks, recovery=Recovery(wait=0.0, skips=0), **options)
