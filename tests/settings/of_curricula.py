"""Settings of curricula."""

import numpy as np
from experiments import shows
from routes import NUMPY

import mltk
from mltk.task_analysis.curricula import (
    ClassConditional,
    ClassPairs,
    Curriculum,
    HardMining,
    UniformDifficulty,
)

MAML = mltk.algorithms.MAML(mltk.models.mlp([1, 5, 1]), "mse", inner_lr=0.05)
TASKS = mltk.data.Sinusoid(shots=4, queries=3)


GLYPHS = mltk.data.Glyphs(2, 4, 4, image_size=8).tasks(3, 2, 2)
PIXELS = mltk.algorithms.Prototypical(mltk.models.Sequential([mltk.ops.Flatten()]), temperature=0.3)


def proposals(curriculum, count=3, n_tasks=40, learner=MAML):
    """A few proposals in a row, to a learner that does not learn."""
    meta, rng, state = learner.init(NUMPY, 0), np.random.default_rng(0), curriculum.start()
    for _ in range(count):
        found = curriculum.propose(n_tasks, rng, NUMPY, learner=learner, meta_params=meta, state=state)
        yield found
        state = found.state


def difficulty(curriculum):
    from mltk.task_analysis.curricula.of_tasks import difficulty

    meta = MAML.init(NUMPY, 0)
    return np.mean([difficulty(MAML, meta, found.episode).mean() for found in proposals(curriculum)])


@shows(HardMining, of="tasks")
@shows(UniformDifficulty, of="tasks")
@shows(Curriculum, of="tasks")
def whose_tasks(kind):
    for shots in (4, 2):
        source = mltk.data.Sinusoid(shots=shots, queries=3)
        curriculum = kind(source, **({"steps": 3} if kind is Curriculum else {}))
        assert next(proposals(curriculum)).episode.support_x.shape == (40, shots, 1)


@shows(HardMining, of="candidates")
def the_hardest_of_more(kind):
    assert difficulty(kind(TASKS, candidates=8)) > 1.1 * difficulty(kind(TASKS, candidates=2))


@shows(Curriculum, of="candidates")
def the_easiest_of_more(kind):
    few, many = (difficulty(kind(TASKS, steps=99, first=0.0, candidates=count)) for count in (2, 8))
    assert many < 0.9 * few


@shows(Curriculum, of="steps")
@shows(Curriculum, of="first")
def how_large_a_part_is_chosen_from(kind):
    for steps, first, parts in ((2, 0.5, [0.5, 0.75, 1]), (4, 0.2, [0.2, 0.4, 0.6])):
        found = [each.figures["part"] for each in proposals(kind(TASKS, steps, first))]
        np.testing.assert_allclose(found, parts)


@shows(UniformDifficulty, of="divisor")
def by_what_the_sum_is_divided(kind):
    effective, plain = (list(proposals(kind(TASKS, divisor)))[-1] for divisor in ("effective", "tasks"))
    number = plain.figures["effective_tasks"]
    assert number < 39
    np.testing.assert_allclose(effective.episode.weights, plain.episode.weights * 40 / number)


@shows(UniformDifficulty, of="memory")
def what_earlier_tasks_count_for(kind):
    for memory, total in ((1.0, 120), (0.5, 70), (0.0, 40)):
        assert list(proposals(kind(TASKS, memory=memory)))[-1].state["total"] == total


@shows(ClassConditional, of="tasks")
@shows(ClassPairs, of="tasks")
def whose_classes(kind):
    for ways in (2, 3):
        curriculum = kind(mltk.data.Glyphs(2, 4, 4, image_size=8).tasks(ways, 1, 1))
        episode = next(proposals(curriculum, learner=PIXELS)).episode
        assert episode.support_x.shape == (40, ways, 1, 8, 8)


@shows(ClassConditional, of="strength")
@shows(ClassPairs, of="strength")
def what_an_error_counts_for(kind):
    one, three = (next(proposals(kind(GLYPHS, strength=s), learner=PIXELS)).state for s in (1.0, 3.0))
    assert one["potentials"].max() > 0
    np.testing.assert_allclose(three["potentials"], 3 * one["potentials"])
    errors = [
        np.mean([found.figures["error"] for found in proposals(kind(GLYPHS, strength=s), 9, 16, PIXELS)][1:])
        for s in (0.0, 20.0)
    ]
    assert errors[1] > 1.5 * errors[0]


@shows(ClassConditional, of="memory")
@shows(ClassPairs, of="memory")
def what_is_left_of_earlier_errors(kind):
    means = [
        list(proposals(kind(GLYPHS, memory=memory), learner=PIXELS))[-1].state["potentials"].mean()
        for memory in (0.0, 0.5, 1.0)
    ]
    np.testing.assert_allclose(means[1:] / means[0], [1.75, 3.0], rtol=0.15)
