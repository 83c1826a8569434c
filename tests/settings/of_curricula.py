"""Settings of curricula."""

import numpy as np
from experiments import shows
from routes import NUMPY

import mltk
from mltk.task_analysis.curricula import Curriculum, HardMining, UniformDifficulty

MAML = mltk.algorithms.MAML(mltk.models.mlp([1, 5, 1]), "mse", inner_lr=0.05)
TASKS = mltk.data.Sinusoid(shots=4, queries=3)


def proposals(curriculum, count=3, n_tasks=40):
    """A few proposals in a row, to a learner that does not learn."""
    meta, rng, state = MAML.init(NUMPY, 0), np.random.default_rng(0), curriculum.start()
    for _ in range(count):
        found = curriculum.propose(n_tasks, rng, NUMPY, learner=MAML, meta_params=meta, state=state)
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
