"""How often tests that are looked at again and again are wrong, and how soon they decide: run as a script."""

import math

import numpy as np
from coins import Coin, Knowing
from scipy import stats

from mltk import backend
from mltk.evaluation import EProcess, asymptotic, race

POINTS = 0.03
"""The standard deviation of a difference of accuracies on a task."""


NULLS = {
    "normal": lambda rng, shape: rng.normal(0, POINTS, shape),
    "heavy tails (t, 3 degrees of freedom)": lambda rng, shape: 0.02 * rng.standard_t(3, shape),
    "ties (one query of 25 more or less on 10 % of tasks)": lambda rng, shape: rng.choice(
        [-0.04, 0.0, 0.04], p=[0.05, 0.9, 0.05], size=shape
    ),
    "skewed (exponential)": lambda rng, shape: POINTS * (rng.exponential(size=shape) - 1),
    "rare failures (of one learner, by 49 points on 2 % of tasks)": lambda rng, shape: np.where(
        rng.random(shape) < 0.02, -0.49, 0.01
    ),
}
"""Differences with mean zero; the first three are symmetric, as those of learners that are alike."""


def false_decisions(comparisons, null="normal", tasks=400, every=20, seed=0):
    """The parts of comparisons with mean zero in which t, evidence and sequence ever find a difference."""
    rng, found = np.random.default_rng(seed), []
    looks = np.arange(every, tasks + 1, every)
    for start in range(0, comparisons, 100):
        apart = NULLS[null](rng, (min(100, comparisons - start), tasks))
        means = np.cumsum(apart, axis=1)[:, looks - 1] / looks
        squares = np.cumsum(apart**2, axis=1)[:, looks - 1] / looks
        errors = np.sqrt(np.maximum(squares - means**2, 0) / (looks - 1))
        t = np.abs(means) > stats.t.ppf(0.975, looks - 1) * errors
        evidence = EProcess().update(apart)[1] >= math.log(2 / 0.05)
        sequence = asymptotic(apart)
        outside = (sequence.low > 0) | (sequence.high < 0)
        found.append(np.stack([each.any(axis=1) for each in (t, evidence.any(axis=2), outside)]))
    return np.concatenate(found, axis=1).mean(axis=1)


def false_equivalences(comparisons, null, tasks=1000, margin=0.01, seed=3):
    """The part of comparisons called equivalent whose mean difference is 1.1 margins, of the worse sign."""
    apart, found = NULLS[null](np.random.default_rng(seed), (comparisons, tasks)), []
    for mean in (-1.1 * margin, 1.1 * margin):
        sequence = asymptotic(apart + mean)
        inside = (sequence.low >= -margin) & (sequence.high <= margin)
        found.append(inside[:, math.ceil(math.log(2 / 0.05) / margin) - 1 :].any(axis=1).mean())
    return max(found)


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
    for null in NULLS:
        parts = (f"{100 * part:.1f} %" for part in false_decisions(2000, null))
        print(f"{null}: t, evidence, sequence find a difference in {', '.join(parts)}")
        equal = false_equivalences(2000, null)
        print(f"  a difference of 1.1 margins is called equivalent in {100 * equal:.1f} %")
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
