"""Embedding for prediction: pieces of it are the whole, and nothing is computed twice for who says so."""

import numpy as np
import pytest
from counting import calls
from routes import NUMPY

import mltk
from mltk.embedding import ENOUGH, embed, embedded_once, statistics_of_support
from mltk.models import Sequential, conv4
from mltk.normalization import calibrate_on_tasks

TASKS = mltk.data.Glyphs(alphabets=1).tasks(ways=5, shots=1, queries=5)


@pytest.mark.parametrize("statistics", ["batch", "support", "population"])
def test_a_few_tasks_at_a_time_are_embedded_as_all_at_once(backend64, statistics):
    model = conv4(1, 28, width=3, statistics=statistics)
    episode = TASKS.sample(7, 0, backend64)  # the last piece is smaller than the others
    assert 2 * ENOUGH < np.prod(episode.query_x.shape) < 3 * ENOUGH
    params = calibrate_on_tasks(model, model.init(backend64, 0), TASKS, episodes=3)
    own = statistics_of_support(model, params, episode.support_x)
    with calls(Sequential, "apply") as found:
        pieces = backend64.to_numpy(embed(model, own, episode.query_x))
    assert len(found) == (4 if backend64.device == "cpu" else 1)
    whole = backend64.to_numpy(model.apply(own, episode.query_x))
    np.testing.assert_allclose(pieces, whole, rtol=1e-13, atol=1e-13)


def test_what_was_embedded_is_known_for_the_same_objects_and_no_longer_than_that_is_wanted():
    model = mltk.models.mlp([4, 3])
    params, other = model.init(NUMPY, 0), model.init(NUMPY, 1)
    x, like = np.ones((2, 5, 4)), np.ones((2, 5, 4))
    with calls(Sequential, "apply") as found:
        with embedded_once():
            first = embed(model, params, x)
            assert embed(model, dict(params), x) is first
            assert len(found) == 1
            np.testing.assert_array_equal(embed(model, params, like), first)
            assert not np.array_equal(embed(model, other, x), first)
            with embedded_once():
                embed(model, params, x)
            assert embed(model, params, x) is first
        assert len(found) == 4
        embed(model, params, x)
        embed(model, params, x)
    assert len(found) == 6


def rows_embedded(function):
    """How many examples the networks of learners have met meanwhile."""
    with calls(Sequential, "apply") as found:
        function()
    return sum(x.shape[0] * x.shape[1] for (_, x), _ in found)


@pytest.fixture(scope="module")
def learners():
    """Learners on embeddings, one of which has parameters beside these."""
    model = mltk.models.mlp([3, 3])
    made = {"ridge": mltk.RidgeRegression(model), "means": mltk.algorithms.Prototypical(model)}
    return {name: (each, each.init(NUMPY, 0)) for name, each in made.items()}


BLOBS = mltk.data.Blobs(ways=3, shots=2, queries=4)
EXAMPLES = 3 * (2 + 4)
"""Of each of its tasks."""


def test_an_evaluation_embeds_each_example_once_for_each_learner(learners):
    evaluator = mltk.MetaLearningEvaluator(learners, BLOBS)
    most = rows_embedded(lambda: evaluator.run(60)) - rows_embedded(lambda: evaluator.run(20))
    assert most == 40 * EXAMPLES * len(learners)  # whether it is transductive is asked of the first tasks


def test_evidence_embeds_again_what_is_adapted_to_again_and_what_tasks_are_measured_by(learners):
    found = rows_embedded(lambda: mltk.toolkit.gather(learners, BLOBS, episodes=40))
    assert found == 40 * (EXAMPLES + len(learners) * (EXAMPLES + 3 * 2))


def test_a_report_embeds_no_more_than_an_evaluation(learners, tmp_path):
    def report():
        told = {"learners": learners, "tasks": BLOBS, "backend": NUMPY, "episodes": 20}
        mltk.toolkit.report([], tmp_path / "report.html", **told)

    def evaluate():
        for name, pair in learners.items():
            mltk.MetaLearningEvaluator({name: pair}, BLOBS).run(20)

    assert rows_embedded(report) == rows_embedded(evaluate)
