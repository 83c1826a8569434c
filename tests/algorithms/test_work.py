"""What is not needed is not computed, kept or drawn: counts of the work that learners make."""

import math

import numpy as np
import pytest
from counting import alive, calls, residuals_alive

import mltk
from mltk.algorithms import (
    ANIL,
    MAML,
    ImplicitMAML,
    LearnedOptimizer,
    Reptile,
    RidgeRegression,
    StochasticMAML,
)
from mltk.engines.analytic import AnalyticEngine, AnalyticLinearization
from mltk.evaluation.blocks import BLOCK
from mltk.ops import BatchNorm, Linear, Tanh
from mltk.optim.transforms import Scale

BACKEND = mltk.backend("numpy", dtype="float64")
MODEL = mltk.models.mlp([1, 4, 1], activation="tanh")
POLICY = mltk.models.mlp([2, 4, 2], activation="tanh")
SINES = mltk.data.Sinusoid(5, 6)
STEPS = 6


def make(kind, **options):
    if kind is StochasticMAML:
        return kind(POLICY, inner_steps=STEPS, **options)
    if kind is LearnedOptimizer:
        return kind(MODEL, "mse", Scale(), STEPS, **options)
    return kind(MODEL, "mse", inner_steps=STEPS, **options)


def gradient(learner):
    tasks = mltk.data.Navigation(4, 5) if isinstance(learner, StochasticMAML) else SINES
    return learner.value_and_grad(learner.init(BACKEND, 0), tasks.sample(2, 0, BACKEND))


def adapt(learner):
    episode = SINES.sample(2, 0, BACKEND)
    return learner.adapt(learner.init(BACKEND, 0), episode.support_x, episode.support_y)


unrolled = pytest.mark.parametrize("kind", [MAML, LearnedOptimizer, StochasticMAML])


def curvatures(seen):
    return [options.get("curvature", True) for _, options in seen]


@unrolled
def test_a_step_is_linearised_once_and_has_one_hessian_product(kind):
    with calls(AnalyticEngine, "linearize") as seen, calls(AnalyticLinearization, "hvp") as products:
        gradient(make(kind))
    assert curvatures(seen) == [True] * STEPS + [False]  # the query needs none
    assert len(products) == STEPS


@unrolled
@pytest.mark.parametrize("checkpoint", [False, True])
def test_first_order_keeps_no_curvature(kind, checkpoint):
    with calls(AnalyticEngine, "linearize") as seen, calls(AnalyticLinearization, "hvp") as products:
        gradient(make(kind, first_order=True, checkpoint=checkpoint))
    assert not any(curvatures(seen))
    assert not products


@unrolled
def test_checkpoints_keep_curvature_where_the_way_back_is(kind):
    with calls(AnalyticEngine, "linearize") as seen, calls(AnalyticLinearization, "hvp") as products:
        gradient(make(kind, checkpoint=True))
    assert sum(curvatures(seen)) == len(products) == STEPS
    assert len(seen) <= STEPS * (2 + math.log2(STEPS))


@pytest.mark.parametrize("kind", [MAML, LearnedOptimizer, ImplicitMAML, Reptile])
def test_adaptation_keeps_no_curvature(kind):
    with calls(AnalyticEngine, "linearize") as seen:
        adapt(make(kind))
    assert curvatures(seen) == [False] * STEPS


def test_a_start_that_is_not_learned_costs_no_product():
    with calls(AnalyticLinearization, "hvp") as products:
        gradient(make(LearnedOptimizer, learn_init=False))
    assert len(products) == STEPS - 1


def test_reptile_and_implicit_maml_keep_no_trajectory():
    with calls(AnalyticEngine, "linearize") as seen:
        gradient(make(Reptile))
    assert curvatures(seen) == [False] * STEPS
    with calls(AnalyticEngine, "linearize") as seen:
        gradient(make(ImplicitMAML))
    assert curvatures(seen) == [False] * (STEPS + 1) + [True]


@pytest.mark.parametrize(
    ("options", "most"),
    [({}, STEPS), ({"first_order": True}, 1), ({"checkpoint": True}, 1)],
    ids=["exact", "first order", "checkpoints"],
)
def test_residuals_are_kept_for_the_way_back_alone(options, most):
    with residuals_alive(Tanh) as residuals:
        gradient(make(MAML, **options))
    # The pass that is being made holds its own.
    assert most <= residuals.most <= most + 1
    assert residuals.now == 0


@pytest.mark.parametrize(("checkpoint", "most"), [(False, STEPS + 1), (True, 3)])
def test_checkpoints_keep_few_linearizations(checkpoint, most):
    with alive(AnalyticLinearization) as linearizations:
        gradient(make(MAML, checkpoint=checkpoint))
    assert linearizations.most <= most


def test_nobody_asks_for_the_input_gradient_of_the_first_layer():
    for name in ("vjp", "jvp_of_vjp"):
        with calls(Linear, name) as seen:
            gradient(make(MAML))
        wanted = [options["wrt_input"] for _, options in seen]
        assert wanted == [True, False] * (len(seen) // 2)  # last layer first
    with calls(Linear, "vjp") as seen:
        RidgeRegression(MODEL).value_and_grad(
            MODEL.init(BACKEND, 0) | {"head": HEAD}, SINES.sample(2, 0, BACKEND)
        )
    assert [options["wrt_input"] for _, options in seen] == [True, False]


HEAD = {name: np.asarray(0.1) for name in ("scale", "bias", "log_lambda")}


def test_layers_below_what_adapts_are_not_gone_back_through():
    with calls(Linear, "vjp") as seen:
        adapt(ANIL(MODEL, "mse", inner_steps=STEPS))
    assert [options["wrt_input"] for _, options in seen] == [False] * STEPS


class Counted:
    """A task source that notes what it is asked for."""

    def __init__(self, tasks):
        self.tasks, self.asked, self.first = tasks, [], []

    def sample(self, n_tasks, rng, backend):
        self.asked.append(n_tasks)
        episode = self.tasks.sample(n_tasks, rng, backend)
        self.first.append(float(np.asarray(episode.support_x).ravel()[0]))
        return episode


@pytest.mark.parametrize("episodes", [1, BLOCK, 2 * BLOCK + 10])
def test_evaluation_samples_as_many_blocks_as_it_needs(episodes):
    tasks, learner = Counted(SINES), make(Reptile)
    mltk.evaluate(learner, learner.init(BACKEND, 0), tasks, episodes=episodes)
    assert tasks.asked == [BLOCK] * math.ceil(episodes / BLOCK)


def test_training_samples_one_meta_batch_a_step(tmp_path):
    tasks, learner = Counted(SINES), make(Reptile)
    options = {"backend": BACKEND, "meta_batch": 3, "seed": 0, "out": tmp_path / "run"}
    mltk.train(learner, tasks, steps=4, **options)
    assert tasks.asked == [3] * 4


@pytest.mark.parametrize("kind", ["embedding", "network"])
def test_calibration_takes_the_episodes_of_the_seed(kind):
    norm = BatchNorm(3, statistics="population", spatial_axes=0)
    model = mltk.models.Sequential([Linear(3, 3), norm])
    learner = RidgeRegression(model) if kind == "embedding" else MAML(model, "cross_entropy")
    meta = learner.init(BACKEND, 0)

    def drawn(**options):
        tasks = Counted(mltk.data.Blobs(3, 2, 2))
        learner.calibrate(meta, tasks, **options)
        return tasks

    assert sum(drawn(episodes=5).asked) == 5
    assert sum(drawn(episodes=70).asked) == 70
    assert sum(drawn().asked) == math.ceil(1000 / 12)  # as many as hold 1,000 examples
    assert drawn(episodes=5, seed=1).first != drawn(episodes=5).first == drawn(episodes=5, seed=0).first
