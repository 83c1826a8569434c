"""How often intervals hold the truth, where it is known: run as a script, it prints a table.

The accuracy of a task is a base, plus an effect of each of its classes, of each pair of them, and of the
drawing of its examples; classes are drawn from a population in which all effects have mean zero, so the truth
is the base.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from mltk.data.distinct import distinct
from mltk.evaluation import Evaluation

WAYS, TASKS, TRUTH = 5, 600, 0.8
CLASSES, PAIRS, EXAMPLES = 0.03, 0.03, 0.06
"""Standard deviations of the effects on a task."""

PAIR = np.triu_indices(WAYS, 1)


def subsets(rng, classes):
    """Different classes for each task, ``(tasks, ways)``."""
    return distinct(rng, np.full(TASKS, classes), WAYS)


def effects(rng, chosen, classes, runs=1):
    """What the classes of each task and their pairs do to its accuracy, ``(runs, tasks)``."""
    own = rng.normal(0, CLASSES / np.sqrt(WAYS), (runs, classes))
    first, second = (np.sort(chosen)[:, side] for side in PAIR)
    pairs, which = np.unique(first * classes + second, return_inverse=True)
    between = rng.normal(0, PAIRS / np.sqrt(len(PAIR[0])), (runs, pairs.size))
    return own[:, chosen].sum(-1) + between[:, which].sum(-1)


def judged(rng, classes, groups=0):
    """An evaluation on classes that were drawn for it, alone or in groups of equally many."""
    chosen = subsets(rng, classes)
    of = np.arange(classes) % groups if groups else None
    values = TRUTH + effects(rng, chosen, classes)[0] + rng.normal(0, EXAMPLES, TASKS)
    if groups:
        values += rng.normal(0, CLASSES, groups)[of][chosen].mean(-1)
    return Evaluation("accuracy", values, classes=chosen, groups=None if of is None else of[chosen])


def trainings(rng, classes, runs, apart=0.02):
    """An evaluation of several trainings, each with effects of its own on all tasks and on each class."""
    chosen = subsets(rng, classes)
    common = TRUTH + effects(rng, chosen, classes)[0] + rng.normal(0, EXAMPLES / 2, TASKS)
    own = rng.normal(0, apart, (runs, 1)) + effects(rng, chosen, classes, runs) / 2
    values = common + own + rng.normal(0, EXAMPLES / 2, (runs, TASKS))
    return Evaluation("accuracy", values.mean(0), classes=chosen, by_run=values)


def coverage(draw, over, *, sets, seed=0):
    """The fraction of test sets whose intervals hold the truth, by what they are over."""
    held = np.zeros(len(over))
    for number in range(sets):
        found = draw(np.random.default_rng([seed, number]))
        held += [each.low <= TRUTH <= each.high for each in (found.interval(name) for name in over)]
    return dict(zip(over, held / sets, strict=True))


def main(sets=4000):
    """Print a line for each kind of test set."""
    cases = [(f"{c} classes", partial(judged, classes=c), ("classes",)) for c in (20, 100, 400)]
    for n in (8, 20):
        cases.append((f"{n} groups of 20 classes", partial(judged, classes=20 * n, groups=n), ("groups",)))
    for n in (3, 5, 10):
        cases.append((f"{n} trainings, 100 classes", partial(trainings, classes=100, runs=n), ("seeds",)))
    for n in (2, 3, 5):
        draw = partial(trainings, classes=100, runs=n, apart=0.04)
        cases.append((f"{n} that differ twice as much", draw, ("seeds",)))
    for name, draw, over in cases:
        found = coverage(draw, ("tasks", *over), sets=sets)
        print(f"{name:28}", *(f"over {each}: {100 * part:.1f} %" for each, part in found.items()), sep="  ")


if __name__ == "__main__":
    main()
