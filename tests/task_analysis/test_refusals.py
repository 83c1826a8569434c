"""What is no task, feature or accuracy is refused by an error that names it, what was found and expected."""

import math

import numpy as np
import pytest
from routes import NUMPY, ROUTES

import mltk
from mltk.errors import MltkError, NotFiniteError
from mltk.task_analysis import (
    Measures,
    ceiling,
    correlation,
    fit_by_hardness,
    fit_power_law,
    gradient_alignment,
    mean_confidence,
    measures,
    predicted,
    task2vec,
    task2vec_distances,
    variance_components,
)
from mltk.task_analysis.hardness import hardness_value_and_grad
from mltk.task_analysis.measures import OF_FEATURES

EPISODE = mltk.data.Blobs(ways=3, shots=2, queries=4).sample(4, 0, NUMPY)
RIDGE = mltk.RidgeRegression(mltk.models.mlp([3, 4]))
SINUSOID = mltk.data.Sinusoid(shots=2, queries=2)
MAML = mltk.algorithms.MAML(mltk.models.mlp([1, 4, 1]), "mse")
FIVE = np.arange(5.0)
N, ERRORS, WEIGHTS = np.asarray([1.0, 2, 4]), np.asarray([[3.0, 2, 1]]), np.ones(3)
GRADIENT = {"0": {"weight": np.ones((2, 3, 4)), "bias": np.ones((2, 3))}}


def hardness(features=None, **options):
    return mltk.hardness_metric(EPISODE, 3, features=features, **options)


def learn(meta_params=None, **options):
    params = MAML.init(NUMPY, 0) if meta_params is None else meta_params
    return mltk.LearnabilityAnalyzer(MAML, SINUSOID, params).run(episodes=4, progress=False, **options)


def law(n=N, errors=ERRORS, weights=WEIGHTS):
    return fit_power_law(n, errors, weights)


REFUSED = [
    (lambda: hardness(lambda x: x > 0), "features gives dtype bool; expected floating"),
    (lambda: hardness(lambda x: x.astype(int)), "features gives dtype int64; expected floating"),
    (lambda: hardness(temperature=1e-300), "temperature is 1e-300; expected at least 1e-154 for float64"),
    (lambda: task2vec(EPISODE, None), "features is None; expected a pair"),
    (lambda: measures(EPISODE, learner=(3, {})), "learner of learner is 3; expected an object with predict"),
    (lambda: Measures.joined([]), r"parts is \[\]; expected the measures of at least one episode"),
    (lambda: Measures.joined([3]), r"parts is \[3\]; expected the measures"),
    (lambda: mean_confidence([1]), "logits holds a list; expected an array"),
    (lambda: mean_confidence(np.ones(3)), r"logits has shape \(3,\); expected"),
    (lambda: mean_confidence(np.full((1, 2, 3), np.nan)), "logits holds NaN or infinity"),
    (lambda: task2vec_distances(np.ones(3)), r"vectors has shape \(3,\); expected \(T, F\)"),
    (lambda: task2vec_distances(np.ones((2, 3), int)), "vectors has dtype int64; expected floating"),
    (lambda: task2vec_distances(np.full((2, 3), np.inf)), "vectors holds NaN or infinity"),
    (lambda: gradient_alignment({}, {}), r"support has leaves \{\}; expected a tree"),
    (
        lambda: gradient_alignment(*[{"0": np.ones((2, 3), int)}] * 2),
        "support has dtype int64; expected floating",
    ),
    (lambda: gradient_alignment(*[{"0": np.ones((0, 3))}] * 2), r"support has leaves \{'0': \(0, 3\)\}"),
    (lambda: gradient_alignment(GRADIENT, 3), r"query has leaves \{\}; expected a tree"),
    (lambda: gradient_alignment(GRADIENT, {"0": GRADIENT["0"]["bias"]}), "query has leaves.* as support"),
    (lambda: gradient_alignment({"0": [1.0]}, {"0": [1.0]}), r"support has leaves \{'0': \(\)\}"),
    (lambda: gradient_alignment({"a": np.ones((2, 1)), "b": np.ones((3, 1))}, {}), "as many tasks"),
    (lambda: ceiling(FIVE * 20, 25), "accuracies holds 20; expected fractions from 0 to 1"),
    (lambda: ceiling(FIVE / 4 - 0.5, 25), "accuracies holds -0.5; expected fractions"),
    (lambda: ceiling("good", 25), "accuracies is 'good'; expected an array of numbers"),
    (lambda: fit_by_hardness(FIVE, FIVE), "accuracies holds 2; expected fractions"),
    (lambda: predicted(Measures({"a": FIVE}, {"a": "support"}), 100 * FIVE, 25), "accuracies holds 100"),
    (lambda: correlation(FIVE, np.arange(6.0)), r"y has shape \(6,\); expected \(5,\) as x"),
    (lambda: correlation(FIVE, [[1.0], [2.0, 3.0]]), "y is .*; expected an array of numbers"),
    (lambda: law(n=N[:2], errors=ERRORS[:, :2], weights=WEIGHTS[:2]), r"n is .*; expected at least 3"),
    (lambda: law(n=N * [1, 0.5, 1]), "n is .*; expected at least 3 different"),
    (lambda: law(n=[]), r"n has shape \(0,\); expected \(K,\)"),
    (lambda: law(n=N - 1), "n is .*; expected at least 3 different numbers above 0"),
    (lambda: law(errors=ERRORS[0]), r"errors has shape \(3,\); expected \(B, 3\)"),
    (lambda: law(errors=ERRORS * np.nan), "errors holds NaN"),
    (lambda: law(weights=WEIGHTS[:2]), r"weights has shape \(2,\); expected \(3,\)"),
    (lambda: law(weights=0 * WEIGHTS), "weights is .*; expected numbers above 0"),
    (lambda: variance_components(np.ones((2, 2, 2))), r"values has shape .*; expected \(T, R, Q, S\)"),
    (lambda: variance_components(np.ones((1, 2, 2, 1))), "values has shape .*; expected 2 tasks"),
    (lambda: variance_components(np.ones((2, 2, 1, 1))), "values has shape .*; expected 2 tasks"),
    (lambda: learn(shots=5), "shots is 5; expected a tuple of integers of at least 1"),
    (lambda: learn(shots=()), r"len\(shots\) is 0; expected an integer of at least 1"),
    (lambda: learn(shots=(0,)), "each of shots is 0"),
    (lambda: learn(inner_steps=3), "inner_steps is 3; expected a tuple of integers of at least 0"),
    (lambda: learn(inner_steps=(-1,)), "each of inner_steps is -1"),
    (lambda: learn(seed=-1), "seed is -1; expected an integer of at least 0"),
    (lambda: learn([]), "meta_params is an empty list"),
    (lambda: learn({}), "backend is None, and meta_params holds no array"),
]


@pytest.mark.parametrize(("call", "message"), REFUSED)
def test_is_refused(call, message):
    with pytest.raises(MltkError, match=message):
        call()


@pytest.mark.parametrize("name", OF_FEATURES)
def test_features_must_be_finite(name):
    labels, argument = np.asarray([[0, 0, 1, 1]]), "source_logits" if name in ("leep", "nce") else "features"
    for bad in (math.nan, math.inf):
        for backend in ROUTES:
            features = np.ones((1, 4, 3))
            features[0, 1, 2] = bad
            with pytest.raises(NotFiniteError, match=f"{argument} holds NaN or infinity"):
                OF_FEATURES[name](backend.asarray(features), backend.asarray(labels), ways=2)


def test_features_that_have_a_gradient_must_be_finite():
    x, y = np.ones((1, 2, 3)), np.asarray([[0, 1]])
    with pytest.raises(NotFiniteError, match="query holds NaN"):
        hardness_value_and_grad(x, y, x * np.nan, y, ways=2)


def test_shots_are_needed_for_a_number():
    found = learn(shots=np.asarray([1, 2, 4]))
    assert "4 shots" in str(found)
    for error in ("x", None, math.nan):
        with pytest.raises(MltkError, match="error is"):
            found.shots_needed(error)
