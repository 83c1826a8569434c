"""Recovery after divergence, kills, full disks and damage: at last the run is what it would have been."""

import json
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from itertools import count
from pathlib import Path

import faults
import numpy as np
import pytest
from faults import (
    Climbing,
    FullDisk,
    KilledError,
    Killing,
    kill_at_file,
    without_pictures_and_waiting_for_the_disk,  # noqa: F401 - a fixture
)
from hypothesis import given, settings
from hypothesis import strategies as st
from run_contents import assert_same_run

import mltk
from mltk import optim, tree
from mltk.errors import DivergedError, RunError
from mltk.toolkit import Recovery
from mltk.toolkit.recovery_log import Event, RecoveryWarning
from mltk.training.run_folder import RunFolder

TASKS = mltk.data.Sinusoid(shots=2, queries=2)
CLIMBING = Climbing(mltk.models.mlp([1, 1]), "mse")
HOW = {"steps": 10, "checkpoint_every": 2, "optimizer": optim.SGD(1.0), "log_every": 3}
MAML = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")
EXPECTED = [(6, 0.5), (4, 0.25), (8, 0.125)]
"""Where the climbing goes back to, and its rate then. After step 6 the bias is 6, finite and lost: the retry
from there comes to no checkpoint. From step 4 on it is 4.25, 4.5, 4.75, 5 (step 8), 5.25: too much again."""


@pytest.fixture(params=["numpy", "torch"])
def backend(request):
    return mltk.backend(request.param)


pytestmark = pytest.mark.usefixtures("without_pictures_and_waiting_for_the_disk")


def climb(*, learner=CLIMBING, retries=3, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecoveryWarning)
        return Recovery(retries).train(learner, TASKS, **{"backend": mltk.backend("numpy")} | HOW | options)


def bias(run):
    return float(run.meta_params["0"]["bias"][0])


def went_back(run):
    return [(event.step, event.rate) for event in run.events if event.kind == "diverged"]


@pytest.mark.parametrize("in_folder", [False, True])
def test_it_goes_back_as_far_as_it_must_at_a_smaller_rate(backend, in_folder, tmp_path):
    run = climb(backend=backend, out=tmp_path / "run" if in_folder else None)
    assert went_back(run) == EXPECTED
    assert bias(run) == 5.25  # after two steps of an eighth
    assert (run.steps, run.rate) == (10, 0.125)
    assert [line["step"] for line in run.history] == [3, 6, 9, 10]
    assert [event.number for event in run.events] == [1, 2, 3]
    assert run.events[0].what == "training diverged: x holds inf, at step 7"


def test_before_the_first_checkpoint_it_starts_again(tmp_path):
    learner = replace(CLIMBING, limit=0.5)
    for out in (None, tmp_path / "run"):
        run = climb(learner=learner, steps=5, out=out)
        # At a half it reaches the checkpoint of step 2 and is lost at once, so the last retry starts anew.
        assert went_back(run) == [(0, 0.5), (2, 0.25), (0, 0.125)]
        assert bias(run) == 0.625


def test_retries_are_bounded_over_all_calls(tmp_path):
    for _ in range(2):
        with pytest.raises(
            DivergedError, match=r"step 10; .*; after 2 retries, the last with 0\.25 of the rate"
        ):
            climb(retries=2, out=tmp_path / "run")
    assert bias(climb(retries=3, out=tmp_path / "run")) == 5.25
    with pytest.raises(DivergedError, match="step 7"):
        climb(retries=0)


@pytest.mark.parametrize("in_folder", [False, True])
def test_without_divergence_the_run_is_the_plain_one(backend, in_folder, tmp_path):
    found, plain = (tmp_path / "found", tmp_path / "plain") if in_folder else (None, None)
    options = {"backend": backend, "steps": 7, "checkpoint_every": 2}
    run = Recovery().train(MAML, TASKS, out=found, **options)
    other = mltk.train(MAML, TASKS, out=plain, **options)
    for name, leaf in tree.flatten(other.meta_params).items():
        np.testing.assert_array_equal(tree.flatten(run.meta_params)[name], leaf)
    assert [line["loss"] for line in run.history] == [line["loss"] for line in other.history]
    assert (run.events, run.rate) == ((), 1.0)
    if in_folder:
        assert_same_run(found, plain)
        assert not (found / "recovery.jsonl").exists()


GRADS = [np.random.default_rng(step).normal(size=3) for step in range(4)]
RATED = {
    "sgd": lambda rate: optim.SGD(rate, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": optim.Adam,
    "adamw": lambda rate: optim.AdamW(rate, weight_decay=0.2),
    "schedule": lambda rate: optim.Adam(optim.Cosine(rate, steps=5, end=rate / 9, warmup=2)),
    "chain": lambda rate: optim.chain(optim.ClipByGlobalNorm(1.0), optim.SGD(rate, momentum=0.5)),
}


@pytest.mark.parametrize("make", RATED.values(), ids=RATED)
def test_smaller_updates_are_those_of_a_smaller_rate(make):
    params, (one, other) = {"w": np.arange(3.0)}, (make(0.3), make(0.075))
    states = [one.init(params), other.init(params)]
    for grad in GRADS:
        updates, states[0] = one.update({"w": grad}, states[0], params)
        smaller, states[1] = other.update({"w": grad}, states[1], params)
        np.testing.assert_allclose(0.25 * updates["w"], smaller["w"], rtol=1e-12)


def same_recovery(found, expected):
    assert_same_run(found, expected)
    assert (found / "recovery.jsonl").read_text() == (expected / "recovery.jsonl").read_text()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mltk.pictures.curves.curve_of_run", lambda *given: None)
        climb(out=folder)
    return folder


def test_a_process_that_ends_at_any_file_goes_on(undisturbed, tmp_path):
    for number in count():
        out = tmp_path / str(number)
        with pytest.MonkeyPatch.context() as patch:
            calls = kill_at_file(patch, number)
            try:
                climb(out=out)
            except KilledError:
                assert len(calls) == number + 1
            else:
                break
        climb(out=out)
        same_recovery(out, undisturbed)
    assert number > 50


def test_a_disk_that_is_full_at_any_write_loses_nothing(undisturbed, tmp_path, monkeypatch):
    named, reached = "", 0
    for number in count(0, 3):
        out, problem = tmp_path / str(number), ""
        try:
            with FullDisk(monkeypatch, writes=number):
                climb(out=out)
        except RunError as error:
            problem = str(error)
        if not problem:
            break
        assert problem.startswith(str(out))
        assert "No space left on device" in problem
        named += problem
        files = RunFolder(out)
        if files.checkpoint_path.exists():
            assert files.read_checkpoint().step >= reached - 6  # what a divergence goes back by
            reached = max(reached, files.read_checkpoint().step)
        climb(out=out)
        same_recovery(out, undisturbed)
    assert number > 10
    for name in ("config.toml", "metrics.jsonl", "checkpoint.npz", "recovery.jsonl"):
        assert name in named


@pytest.mark.parametrize("step", [1, 5, 6, 8, 9])
def test_a_recovery_that_is_killed_after_a_step_goes_on(undisturbed, tmp_path, step):
    with pytest.raises(KilledError):
        climb(out=tmp_path, watch=Killing(step))
    climb(out=tmp_path)
    same_recovery(tmp_path, undisturbed)


def test_what_was_recovered_is_loaded_and_goes_on_as_any_run(undisturbed, tmp_path):
    with pytest.raises(KilledError):
        climb(out=tmp_path, watch=Killing(9, time=2))  # when all that diverges is past
    assert mltk.load_run(tmp_path, algorithm=CLIMBING).run.steps == 8
    mltk.train(CLIMBING, TASKS, backend=mltk.backend("numpy"), out=tmp_path, resume=True, **HOW)
    same_recovery(tmp_path, undisturbed)


CODE = """
import sys, mltk
from faults import Killing
import os, signal
class Kill(Killing):
    def on_step(self, seen):
        if seen.step == self.step: os.kill(os.getpid(), signal.SIGKILL)
learner = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")
mltk.toolkit.Recovery().train(
    learner, mltk.data.Sinusoid(shots=2, queries=2), backend=mltk.backend("numpy"), steps=7,
    checkpoint_every=2, out=sys.argv[1], watch=Kill(5)
)
"""


def test_a_process_that_is_killed_goes_on(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(faults.__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "killed")], env=environment, check=False
    )
    assert done.returncode == -signal.SIGKILL
    options = {"backend": mltk.backend("numpy"), "steps": 7, "checkpoint_every": 2}
    Recovery().train(MAML, TASKS, out=tmp_path / "killed", **options)
    mltk.train(MAML, TASKS, out=tmp_path / "plain", **options)
    assert_same_run(tmp_path / "killed", tmp_path / "plain")


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A folder that holds the checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("interrupted") / "run"
    with pytest.raises(KilledError):
        climb(out=folder, watch=Killing(5))
    return folder


@settings(max_examples=15)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 8))
def test_a_damaged_checkpoint_costs_the_steps_after_the_one_before(
    interrupted, undisturbed, tmp_path_factory, place, bit
):
    out = tmp_path_factory.mktemp("damaged")
    for name in ("config.toml", "metrics.jsonl", "checkpoint.npz", "checkpoint-before.npz"):
        (out / name).write_bytes((interrupted / name).read_bytes())
    content = bytearray((out / "checkpoint.npz").read_bytes())
    place = int(place * len(content))
    if bit == 8:
        del content[place:]
    else:
        content[place] ^= 1 << bit
    (out / "checkpoint.npz").write_bytes(content)
    try:
        damaged, said = RunFolder(out).read_checkpoint() is None, ""
    except RunError as error:
        damaged, said = True, str(error)
    run = climb(out=out)
    assert_same_run(out, undisturbed)
    assert [(event.kind, event.step, event.what) for event in run.events[:damaged]] == [
        ("damaged", 2, said)
    ] * damaged
    assert went_back(run) == EXPECTED


def test_a_checkpoint_that_is_gone_is_replaced_and_two_damaged_ones_are_named(interrupted, tmp_path):
    for name in ("config.toml", "metrics.jsonl", "checkpoint.npz", "checkpoint-before.npz"):
        (tmp_path / name).write_bytes(
            (interrupted / name).read_bytes()[: None if name.endswith("l") else 999]
        )
    with pytest.raises(
        RunError, match=r"checkpoint\.npz is damaged.*; and .*checkpoint-before\.npz is damaged"
    ):
        climb(out=tmp_path)
    (tmp_path / "checkpoint.npz").unlink()
    (tmp_path / "checkpoint-before.npz").write_bytes((interrupted / "checkpoint-before.npz").read_bytes())
    with pytest.raises(RunError, match="already holds a run"):  # that can still be had
        mltk.train(CLIMBING, TASKS, backend=mltk.backend("numpy"), out=tmp_path, **HOW)
    with pytest.warns(
        RecoveryWarning, match=r"checkpoint\.npz is missing.*; the checkpoint before is taken, .* 2"
    ):
        Recovery().train(CLIMBING, TASKS, backend=mltk.backend("numpy"), out=tmp_path, **HOW)


def test_links_are_not_needed(undisturbed, tmp_path, monkeypatch):
    def refuse(*given, **named):
        raise PermissionError

    monkeypatch.setattr("mltk.files.os.link", refuse)
    climb(out=tmp_path / "run")
    same_recovery(tmp_path / "run", undisturbed)
    assert RunFolder(tmp_path / "run").read_checkpoint(before=True).step == 8


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "diverged"}',
        "[]",
        '{"kind": "lost", "step": 1, "what": "", "number": 1, "rate": null}',
        '{"kind": "diverged", "step": 1, "what": "", "number": 1, "rate": 1.5}',
        '{"kind": "raised", "step": -1, "what": "", "number": 1, "rate": null}',
        '{"kind": "raised", "step": 1, "what": "", "number": true, "rate": null}',
    ],
)
def test_a_damaged_log_is_refused_by_name(line, tmp_path):
    (tmp_path / "recovery.jsonl").write_text(line + "\n")
    with pytest.raises(RunError, match=r"recovery\.jsonl is damaged"):
        climb(out=tmp_path)


def test_what_happened_is_said_shown_and_written(tmp_path):
    records = mltk.Records()
    with pytest.warns(
        RecoveryWarning, match=r"at step 7; retry 1 goes on after step 6, with 0.5 of the rate"
    ):
        run = Recovery().train(
            CLIMBING, TASKS, backend=mltk.backend("numpy"), out=tmp_path, records=records, run="climb", **HOW
        )
    climb(out=tmp_path, records=records, run="climb")  # the same events again
    rows = records.rows(run="climb/recovery")
    assert [(row.episode, row.outcome, row.trace["step"]) for row in rows] == [
        (number, rate, step) for number, (step, rate) in enumerate(EXPECTED)
    ]
    assert "recovered    diverged 3 times, rate 0.125 of what it was" in repr(run)
    told = json.loads(json.dumps(run.to_dict()))
    assert [Event(**event) for event in told["events"]] == list(run.events)
    assert (told["steps"], told["rate"]) == (10, 0.125)


@pytest.mark.parametrize(
    ("optimizer", "forgotten"),
    [
        (optim.SGD(1.0, momentum=1e-6), {"moments.velocity"}),
        (optim.Adam(1.0), {"moments.mean"}),
        (optim.chain(optim.ClipByGlobalNorm(1e9), optim.AdamW(1.0, weight_decay=0.0)), {"1.moments.mean"}),
    ],
)
def test_the_memory_of_directions_is_forgotten_and_no_other(optimizer, forgotten, tmp_path):
    with pytest.raises(DivergedError):  # after step 6 there is no going on
        climb(out=tmp_path / "back", optimizer=optimizer, retries=1)
    climb(out=tmp_path / "there", optimizer=optimizer, steps=6)
    back, there = (RunFolder(tmp_path / name).read_checkpoint() for name in ("back", "there"))
    assert (back.step, there.step, back.rate) == (6, 6, 0.5)
    assert {name for name, leaf in back.optimizer.items() if not leaf.any()} == forgotten
    for name, leaf in there.optimizer.items():
        assert leaf.any(), name
        if name not in forgotten:
            np.testing.assert_array_equal(back.optimizer[name], leaf)
