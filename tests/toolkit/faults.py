"""Faults that tests put in the way of trainings: sources that raise, ends of the process, full disks."""

import errno
import io
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import mltk
from mltk import files, tree
from mltk.errors import NotFiniteError


class BrokenError(Exception):
    """What a source raises here: none of mltk's own, as that of a user's library."""


@dataclass
class Raising:
    """A source that raises at chosen draws, counted from 0, once it has moved the generator on.

    Attributes:
        tasks: Where its tasks come from.
        at: The draws.
        error: What it raises.
        prefetch: Whether a training draws ahead in a thread.
    """

    tasks: Any
    at: tuple[int, ...] = ()
    error: type[Exception] = BrokenError
    prefetch: bool = False
    draws: int = field(default=0, init=False)

    def sample(self, n_tasks, rng, backend):
        episode = self.tasks.sample(n_tasks, rng, backend)
        self.draws += 1
        if self.draws - 1 in self.at:
            raise self.error(f"draw {self.draws - 1}")
        return episode

    def fingerprint(self):
        return {}  # that draws fail does not make it another source


@dataclass(frozen=True)
class Spoilt:
    """A source some of whose tasks can never be read: those of a generator's states, whoever asks again.

    Attributes:
        tasks: Where its tasks come from.
        every: Of so many draws one is spoilt, on average.
        prefetch: Whether a training draws ahead in a thread.
    """

    tasks: Any
    every: int = 4
    prefetch: bool = False

    def sample(self, n_tasks, rng, backend):
        rng = np.random.default_rng(rng)
        if self.spoils(rng):
            raise BrokenError("these tasks cannot be read")
        return self.tasks.sample(n_tasks, rng, backend)

    def spoils(self, rng):
        return rng.bit_generator.state["state"]["state"] % self.every == 0


@dataclass(frozen=True)
class Climbing(mltk.algorithms.MAML):
    """A learner whose parameters all grow from zero by one a step, at rate 1, and that is lost above a limit.

    Attributes:
        limit: The largest first bias that its loss is finite at.
    """

    limit: float = 5.2

    def init(self, backend, seed):
        return tree.map(lambda leaf: 0 * leaf, super().init(backend, seed))

    def value_and_grad(self, meta_params, episode):
        value, _ = super().value_and_grad(meta_params, episode)
        if float(meta_params["0"]["bias"][0]) > self.limit:
            raise NotFiniteError("x holds inf")
        return value, tree.map(lambda leaf: 0 * leaf - 1, meta_params)


class KilledError(BaseException):
    """Stands for the end of a process: nobody catches it."""


class Killing:
    """A watcher that kills the training after a step, when it is taken for the first or a later time."""

    def __init__(self, step, *, time=1):
        self.step, self.left = step, time

    def on_step(self, seen):
        self.left -= seen.step == self.step
        if not self.left:
            raise KilledError

    def on_tasks(self, seen):
        raise AssertionError("a training is no evaluation")


def kill_at_file(monkeypatch, number):
    """Have the process end at the call of the system, counted from 0, that makes, opens or renames a file.

    Returns:
        A list that is as long as there were calls.
    """
    calls = []

    def mortal(name):
        real = getattr(os, name)

        def call(*given, **named):
            if name != "open" or given[1] & (os.O_WRONLY | os.O_RDWR):
                calls.append(name)
                if len(calls) == number + 1:
                    raise KilledError
            return real(*given, **named)

        monkeypatch.setattr(files.os, name, call)

    for name in ("open", "replace", "link"):
        mortal(name)
    return calls


class FullDisk:
    """A disk that takes so many writes through `mltk.files`, and of the next one half: then it is full.

    Use it in a ``with`` statement.
    """

    def __init__(self, monkeypatch, writes):
        self.monkeypatch, self.left = monkeypatch, writes

    def __enter__(self):
        disk = self

        class File(io.FileIO):
            def write(self, data):
                if not disk.left:
                    super().write(memoryview(data)[: len(data) // 2])
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                disk.left -= 1
                return super().write(data)

        def opened(number, mode, buffering=-1):
            raw = File(number, mode.replace("b", ""))
            if "r" in mode:
                return io.BufferedReader(raw)
            return raw if buffering == 0 else io.BufferedWriter(raw)

        self.patch = self.monkeypatch.context()
        self.patch.__enter__().setattr(files.os, "fdopen", opened)
        return self

    def __exit__(self, *error):
        self.patch.__exit__(*error)


@pytest.fixture
def without_pictures_and_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("mltk.files.os.fsync", lambda number: None)
    monkeypatch.setattr("mltk.pictures.curves.curve_of_run", lambda *given: None)
