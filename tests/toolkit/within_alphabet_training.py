"""Prototypical networks trained on tasks in the form of the Omniglot challenge: a command, not a test.

    MLTK_DATA=… python tests/toolkit/within_alphabet_training.py OUT [--part background-train] [--size 28]

Each task is 20 characters of one alphabet, all turned by the same quarter: the support images are by one
person, the queries by another. OUT is a run folder, for `within_alphabet.py`.
"""

import argparse
from dataclasses import dataclass

import numpy as np

import mltk
from mltk.data.source import generator
from mltk.optim import Adam, Cosine

DRAWERS = 20


def dataset(part, size):
    """A part of Omniglot, or a split of its classes."""
    if part.startswith("background-"):
        return mltk.data.Omniglot(split=part, image_size=size)
    return mltk.data.Omniglot(part, size)


@dataclass(frozen=True)
class AlphabetTasks:
    """Tasks within alphabets, in one of four orientations, by one person and another."""

    images: object
    jitter: object
    ways: int = 20

    def sample(self, n_tasks, rng, backend):
        rng, numbers = generator(rng, n_tasks), self.images.group_numbers
        groups = [np.flatnonzero(numbers == group) for group in np.unique(numbers)]
        groups = [classes for classes in groups if len(classes) >= self.ways]
        chosen = []
        for _ in range(n_tasks):
            rng.random()  # not used: what docs/guides/toolkit.md measured drew one number more
            classes = rng.choice(groups[rng.integers(len(groups))], self.ways, replace=False)
            who = rng.choice(DRAWERS, 2, replace=False)
            turned = len(self.images.pictures.images) * int(rng.integers(4))
            chosen.append(classes[:, None] * DRAWERS + who + turned)
        sets, numbers = [], np.stack(chosen)
        for part in (0, 1):
            x = self.images.take(numbers[..., part], rotations=True)
            x = self.jitter(x.reshape(-1, *x.shape[2:]), rng).reshape(x.shape)
            sets += [backend.asarray(x), backend.asarray(np.tile(np.arange(self.ways), (n_tasks, 1)))]
        return mltk.Episode(*sets, ways=self.ways, backend=backend)


def jitter(size, strength=1.0):
    """The recipe's distortions, for images of any size."""
    usual = {name: strength * value for name, value in vars(mltk.data.Jitter()).items()}
    return mltk.data.Jitter(**usual | {"translation": usual["translation"] * size / 28})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out")
    parser.add_argument("--part", default="background-train")
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--widths", type=int, nargs=4, default=[32, 64, 128, 256])
    parser.add_argument("--statistics", choices=["population", "support"])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    mltk.train(
        mltk.algorithms.Prototypical(
            mltk.models.conv4(1, wanted.size, width=wanted.widths, statistics=wanted.statistics)
        ),
        AlphabetTasks(dataset(wanted.part, wanted.size), jitter(wanted.size, wanted.strength)),
        backend=mltk.backend("torch"),
        steps=wanted.steps,
        meta_batch=3,
        optimizer=Adam(Cosine(5e-3, wanted.steps, warmup=wanted.steps // 50)),
        seed=wanted.seed,
        out=wanted.out,
        progress=True,
    )


if __name__ == "__main__":
    main()
