"""How often tests that are looked at again and again are wrong, and how soon they decide: run as a script."""

import math

import numpy as np
from coins import Coin, Knowing
from scipy import stats

from mltk import backend
from mltk.evaluation import EProcess, asymptotic, race

POINTS = 0.03
"""The standard deviation of a difference of accuracies on a task."""


def false_decisions(comparisons, tasks=400, every=20, seed=0):
    """The parts of comparisons of learners that are alike in which t, evidence and sequence ever find one."""
    null = np.random.default_rng(seed).normal(0, POINTS, (comparisons, tasks))
    looks = np.arange(every, tasks + 1, every)
    means = np.cumsum(null, axis=1)[:, looks - 1] / looks
    squares = np.cumsum(null**2, axis=1)[:, looks - 1] / looks
    deviations = np.sqrt((squares - means**2) * looks / (looks - 1))
    t = np.abs(means) * np.sqrt(looks) / deviations > stats.t.ppf(0.975, looks - 1)
    evidence = EProcess().update(null)[1] >= math.log(2 / 0.05)
    sequence = asymptotic(null)
    outside = (sequence.low > 0) | (sequence.high < 0)
    return t.any(axis=1).mean(), evidence.any(axis=(1, 2)).mean(), outside.any(axis=1).mean()


def false_decisions_about_classes(comparisons, classes=200, tasks=2000, ways=5, seed=2):
    """The parts of comparisons that find one better over tasks of these classes, and over classes.

    Each class suits one learner better, by chance as often one as the other: on other classes both are alike.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(comparisons):
        suits = rng.normal(0, 0.06, classes)
        drawn = rng.integers(classes, size=(tasks, ways))  # twice the same one is rare
        units = rng.permutation(classes).reshape(-1, ways)
        for chosen in (drawn, units):
            apart = suits[chosen].mean(axis=1) + rng.normal(0, POINTS, len(chosen))
            found.append((EProcess().update(apart)[1] >= math.log(2 / 0.05)).any())
    return np.mean(found[::2]), np.mean(found[1::2])


def tasks_needed(difference, most, comparisons, seed=1):
    """The median of the tasks after which a difference is found, and how often it is, and the wrong one."""
    draws = np.random.default_rng(seed).normal(difference, POINTS, (comparisons, most))
    better = EProcess().update(draws)[1] >= math.log(2 / 0.05)
    found, wrong = better.any(axis=1).mean(axis=0)
    return np.median(np.argmax(better[..., 0], axis=1) + 1), found, wrong


RACES = {
    "74 queries": ((0.81, 0.8, 0.8, 0.79, 0.77, 0.75, 0.7, 0.6), 74),
    "10 queries": ((0.72, *[0.7] * 7), 10),
}
"""Accuracies of learners that race, the best first, and queries of a task."""


def races(runs, parts, queries, halving, max_tasks=1000):
    """The part of the tasks that races need, and how often the best leaves, and wins."""
    met, lost, won = [], 0, 0
    for seed in range(runs):
        learners = {str(k): (Knowing(part, 10 * seed + k), {}) for k, part in enumerate(parts)}
        how = {"max_tasks": max_tasks, "halving": halving, "seed": seed, "backend": backend("numpy")}
        found = race(learners, Coin(queries), **how)
        met.append(sum(found.tasks.values()))
        lost += "0" in found.left
        won += found.winner == "0"
    return np.mean(met) / len(parts) / max_tasks, lost / runs, won / runs


if __name__ == "__main__":
    for name, part in zip(("t", "evidence", "sequence"), false_decisions(2000), strict=True):
        print(f"false decisions by {name}: {100 * part:.1f} %")
    for name, part in zip(("tasks", "classes"), false_decisions_about_classes(2000), strict=True):
        print(f"false decisions over {name} where classes matter: {100 * part:.1f} %")
    for points, most in ((0.01, 500), (0.005, 2300)):
        needed, found, _ = tasks_needed(points, most, 1000)
        print(
            f"{100 * points:g} points: found after {needed:.0f} tasks, in {100 * found:.1f} % of comparisons"
        )
    for name, (parts, queries) in RACES.items():
        for halving in (False, True):
            part, lost, won = races(200, parts, queries, halving)
            print(
                f"races of {len(parts)} learners, {name}, halving={halving}: {100 * part:.1f} % of the tasks;"
            )
            print(f"  the best leaves in {100 * lost:.1f} % and wins in {100 * won:.1f} %")
