"""Every learner on images with conv4: one gradient by three routes, a value that is a loss, and learning."""

from dataclasses import replace

import numpy as np
import pytest
from assertions import routes_agree, slopes
from routes import NUMPY

import mltk
from mltk import algorithms, ops, tree
from mltk.models import conv4

SIZE, WAYS = 16, 3
TASKS = mltk.data.Glyphs(3, 8, 12, image_size=SIZE).tasks(WAYS, 2, 3)
STATISTICS = ("batch", "support", "population")


def gradient_based(kind, *, statistics="batch", **options):
    network = conv4(1, SIZE, width=4, out_features=WAYS, statistics=statistics)
    return getattr(algorithms, kind)(network, "cross_entropy", **options)


def embedding_based(kind, *, statistics="population", **options):
    return getattr(algorithms, kind)(conv4(1, SIZE, width=4, statistics=statistics), **options)


STEPS = {"inner_lr": 0.1, "inner_steps": 2}
NETWORKS = {
    "MAML": ("MAML", STEPS),
    "first-order MAML": ("MAML", STEPS | {"first_order": True}),
    "MAML with checkpoints": ("MAML", STEPS | {"checkpoint": True}),
    "MAML without steps": ("MAML", {"inner_steps": 0}),
    "MAML with learned step sizes": ("MAML", STEPS | {"learn_lr": "tensor"}),
    "Meta-SGD": ("MetaSGD", {"inner_lr": (0.05, 0.1), "inner_steps": 2}),
    "ANIL": ("ANIL", {"inner_lr": 0.5, "inner_steps": 2}),
    "BOIL": ("BOIL", STEPS),
    "Reptile": ("Reptile", STEPS),
    "Reptile in batches": ("Reptile", {"inner_lr": 0.1, "inner_steps": 3, "inner_batch": 4}),
    "implicit MAML": ("ImplicitMAML", {"inner_lr": 0.1, "inner_steps": 8}),
}
EMBEDDINGS = {
    "prototypical": ("Prototypical", {}),
    "prototypical, cosine": ("Prototypical", {"distance": "cosine", "temperature": "learned"}),
    "matching": ("Matching", {}),
    "matching, full context": ("Matching", {"full_context": True}),
    "ridge, Woodbury": ("RidgeRegression", {"use_woodbury": True}),
    "ridge, primal": ("RidgeRegression", {"use_woodbury": False}),
    "ridge, Bayesian": ("BayesianRidge", {}),
    "logistic": ("LogisticRegression", {}),
}
LEARNERS = {
    **{name: (gradient_based, *found) for name, found in NETWORKS.items()},
    **{name: (embedding_based, *found) for name, found in EMBEDDINGS.items()},
}


def learner(name, **more):
    make, kind, options = LEARNERS[name]
    return make(kind, **options, **more)


def loss_of_predictions(algorithm, meta, episode):
    """The mean cross-entropy of what the learner predicts for the queries, in NumPy."""
    state = algorithm.adapt(meta, episode.support_x, episode.support_y)
    outputs = episode.backend.to_numpy(algorithm.predict(state, episode.query_x)).astype(np.float64)
    labels = episode.backend.to_numpy(episode.query_y)
    logs = outputs - np.logaddexp.reduce(outputs, axis=-1, keepdims=True)
    return -np.take_along_axis(logs, labels[..., None], axis=-1).mean()


@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("name", LEARNERS)
def test_three_routes_give_one_gradient(name, statistics):
    algorithm = learner(name, statistics=statistics)
    _, grads = routes_agree(algorithm, lambda backend: TASKS.sample(2, 0, backend), seed=1, tolerance=1e-9)
    assert max(np.abs(gradient).max() for gradient in tree.leaves(grads)) > 1e-3


@pytest.mark.parametrize("statistics", ["batch", "support"])
@pytest.mark.parametrize("name", LEARNERS)
def test_the_value_is_the_loss_of_the_predictions(name, statistics, backend64):
    algorithm = learner(name, statistics=statistics)
    meta, episode = algorithm.init(backend64, 2), TASKS.sample(3, 5, backend64)
    value, _ = algorithm.value_and_grad(meta, episode)
    assert float(value) == pytest.approx(loss_of_predictions(algorithm, meta, episode), rel=1e-9)


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_with_population_statistics_it_is_the_loss_where_these_are_those_of_the_episode(name, backend64):
    # Calibrated on a single task, whose support and query sets training normalises together.
    algorithm = learner(name)
    meta, episode = algorithm.init(backend64, 2), TASKS.sample(1, 5, backend64)

    class Again:
        def sample(self, n_tasks, rng, backend):
            return episode

    value, _ = algorithm.value_and_grad(meta, episode)
    calibrated = algorithm.calibrate(meta, Again(), episodes=1)
    assert float(value) == pytest.approx(loss_of_predictions(algorithm, calibrated, episode), rel=1e-9)


@pytest.mark.parametrize("statistics", ["batch", "support"])
@pytest.mark.parametrize("name", [name for name in LEARNERS if "Reptile" not in name and "first" not in name])
def test_the_gradient_is_the_slope_of_the_value(name, statistics):
    # Reptile's and the first-order direction are none; a smooth network has slopes everywhere.
    algorithm = learner(name, statistics=statistics)
    part = "model" if hasattr(algorithm, "model") else "embedding"
    layers = [
        ops.Tanh() if isinstance(layer, ops.ReLU) else layer for layer in getattr(algorithm, part).layers
    ]
    layers = [ops.AveragePool(2) if isinstance(layer, ops.MaxPool) else layer for layer in layers]
    algorithm = replace(algorithm, **{part: mltk.models.Sequential(layers)})
    if name == "implicit MAML":
        # Its gradient is that of the solution of the inner problem, which must be convex and solved.
        algorithm = replace(algorithm, reg_lambda=50.0, inner_lr=0.02, inner_steps=80, cg_steps=50)
    meta, episode = algorithm.init(NUMPY, 3), TASKS.sample(2, 4, NUMPY)
    _, grads = algorithm.value_and_grad(meta, episode)
    slope, difference = slopes(lambda meta: algorithm.value_and_grad(meta, episode)[0], grads, meta)
    size = np.sqrt(sum(np.sum(g * g) for g in tree.leaves(grads)))
    assert difference == pytest.approx(slope, rel=1e-4, abs=1e-4 * size)


# A batch of a few consecutive examples may lack a class, and leads away from it.
@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "Reptile in batches"])
def test_a_few_steps_of_training_lower_the_loss_on_other_tasks(name):
    algorithm = learner(name)
    backend = mltk.backend("numpy")
    unseen = TASKS.sample(40, 9, backend)

    def loss(meta):
        return float(algorithm.value_and_grad(meta, unseen)[0])

    run = mltk.train(
        algorithm, TASKS, backend=backend, steps=40, optimizer=mltk.optim.Adam(1e-2), meta_batch=4, seed=1
    )
    before = loss(algorithm.init(backend, 1))
    assert loss(run.meta_params) < 0.9 * before
