"""The example of the documentation, on small sizes: every part of it works with the others."""

import numpy as np

import mltk


def test_train_evaluate_compare_decide_and_measure():
    be = mltk.backend("torch")
    glyphs = mltk.data.Glyphs(alphabets=2)
    train, test = (each.tasks(ways=5, shots=1, queries=2) for each in (glyphs, glyphs.held_out()))
    embedding = mltk.models.conv4(in_channels=1, image_size=28, width=4)
    learners = {
        "prototypical": mltk.algorithms.Prototypical(embedding),
        "ridge": mltk.RidgeRegression(embedding, reg_lambda=0.01),
    }
    runs = {
        name: mltk.train(each, train, backend=be, steps=2, meta_batch=2, seed=0)
        for name, each in learners.items()
    }
    evaluator = mltk.MetaLearningEvaluator(
        {name: (learners[name], runs[name].meta_params) for name in learners}, test, seed=1
    )
    table = evaluator.run(episodes=20)
    assert str(table).startswith("2 learners on the same 20 tasks")
    groups = table["prototypical"].interval(over="groups")
    assert groups.low < groups.estimate == table["prototypical"].mean < groups.high
    entries = [evaluator.entry(name) for name in learners]
    found = mltk.ABTest(*entries, test, margin=0.01, seed=1).run(max_tasks=20)
    assert found.names == tuple(learners)
    for values, name in zip(found.values, learners, strict=True):
        np.testing.assert_array_equal(values, table[name].values[: found.tasks])
    episode = test.sample(8, rng=0, backend=be)
    hardness = mltk.hardness_metric(episode, num_classes=5)
    measures = mltk.task_analysis.measures(episode, embedding=(embedding, runs["ridge"].meta_params))
    assert hardness.shape == (8,)
    assert "hardness" in str(measures)
