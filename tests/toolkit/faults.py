"""Faults that tests put in the way of trainings: sources that raise, full disks, steep losses."""

import errno
import io
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import mltk
from mltk import files, tree


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
class Overstepping(mltk.algorithms.MAML):
    """A learner whose loss is a steep valley in its parameters, whose walls too long steps climb.

    The loss is half the steepness times the sum of squares, plus a hundredth of MAML's: gradient descent
    diverges at rates above about two by the steepness, and converges below.

    Attributes:
        steepness: The curvature of the valley.
    """

    steepness: float = 10.0

    def value_and_grad(self, meta_params, episode):
        value, grads = super().value_and_grad(meta_params, episode)
        valley = sum(
            float((leaf.astype("float64") ** 2).sum()) for leaf in map(to_numpy, tree.leaves(meta_params))
        )
        grads = tree.map(lambda leaf, grad: self.steepness * leaf + grad / 100, meta_params, grads)
        return value / 100 + 0.5 * self.steepness * valley, grads


def to_numpy(array):
    return np.asarray(array)


class FullDisk:
    """A disk with room for so many bytes: whoever writes more through `mltk.files` finds it full.

    Use it in a ``with`` statement.
    """

    def __init__(self, monkeypatch, room):
        self.monkeypatch, self.room = monkeypatch, room

    def __enter__(self):
        disk = self

        class File(io.FileIO):
            def write(self, data):
                if len(data) > disk.room:  # what fits is written, as by a system
                    super().write(memoryview(data)[: disk.room])
                    disk.room = 0
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                disk.room -= len(data)
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
