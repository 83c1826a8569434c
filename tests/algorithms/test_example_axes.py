"""Axes of examples are not taken for tasks: each layer gets examples of the form that it is for."""

import numpy as np
import pytest
from assertions import slopes
from routes import NUMPY

import mltk
from mltk import Episode, ops
from mltk.algorithms import (
    MAML,
    ImplicitMAML,
    LearnedOptimizer,
    LogisticRegression,
    Matching,
    Prototypical,
    Reptile,
    RidgeRegression,
)
from mltk.errors import ShapeError
from mltk.models import Sequential
from mltk.optim.transforms import Scale

LAYERS = {
    "layer norm": ([ops.LayerNorm(3)], (2, 3)),
    "batch norm": ([ops.BatchNorm(3, spatial_axes=0)], (2, 3)),
    "LSTM": ([ops.LSTM(3, 2)], (2, 3)),
    "convolution": ([ops.Convolution(1, 2, 2)], (2, 1, 3, 3)),
    "linear behind a norm": ([ops.LayerNorm((2, 3)), ops.Linear(3, 2)], (2, 3)),
    "linear behind a convolution": ([ops.Convolution(1, 2, 2), ops.Linear(2, 2)], (1, 3, 3)),
    "linear before a flattening": ([ops.Linear(3, 2), ops.Flatten()], (2, 2, 3)),
}


def learners(model):
    yield LearnedOptimizer(model, "mse", Scale())
    for kind in (MAML, Reptile, ImplicitMAML):
        yield kind(model, "mse")
    for kind in (Prototypical, Matching, RidgeRegression, LogisticRegression):
        yield kind(model)


@pytest.mark.parametrize("name", LAYERS)
def test_no_learner_takes_axes_of_examples_for_tasks(name):
    layers, features = LAYERS[name]
    model = Sequential(layers)
    x, labels = np.random.default_rng(0).normal(size=(2, 4, *features)), np.tile([0, 1], (2, 2))
    values = np.zeros_like(model.apply(model.init(NUMPY, 0), x))
    for learner in learners(model):
        kind, params = type(learner).__name__, learner.init(NUMPY, 0)
        classifies = kind in ("Prototypical", "Matching", "LogisticRegression")
        y, ways = (labels, 2) if classifies else (values, None)
        with pytest.raises(ShapeError, match=r"support_x .* axes reach"):
            learner.value_and_grad(params, Episode(x, y, x, y, ways=ways))
        with pytest.raises(ShapeError, match=r"support_x .* axes reach"):
            learner.adapt(params, x, y)


def test_a_module_of_one_task_takes_no_axes_of_examples_for_tasks():
    model = Sequential([ops.LayerNorm(3), ops.Linear(3, 1)])
    module = mltk.Module(model, model.init(NUMPY, 0))
    with pytest.raises(ShapeError, match="layer 0 of the model"):
        module.grad("mse", np.zeros((4, 2, 3)), np.zeros((4, 2, 1)))


def test_images_as_outputs_behind_the_statistics_of_the_support_set():
    rng = np.random.default_rng(0)
    norm = ops.BatchNorm(2, statistics="support")
    learner = MAML(Sequential([ops.Convolution(1, 2, 2), norm]), "mse", inner_lr=0.1, inner_steps=2)
    x, y = rng.normal(size=(2, 2, 3, 1, 3, 3)), rng.normal(size=(2, 2, 3, 2, 2, 2))
    episode = Episode(x[0], y[0], x[1], y[1])
    params = learner.init(NUMPY, 0)
    value, grads = learner.value_and_grad(params, episode)
    outputs = learner.predict(learner.adapt(params, x[0], y[0]), x[1])
    np.testing.assert_allclose(value, np.mean((outputs - y[1]) ** 2), rtol=1e-12)
    slope, difference = slopes(lambda params: learner.value_and_grad(params, episode)[0], grads, params)
    assert slope == pytest.approx(difference, rel=1e-7)
