"""Settings of learners that go by gradients."""

from dataclasses import replace

import numpy as np
from counting import alive, calls
from experiments import close, flat, shows
from routes import NUMPY

import mltk
from mltk import tree
from mltk.algorithms import MAML, ImplicitMAML, LearnedOptimizer, Reptile, StochasticMAML
from mltk.algorithms.stochastic_maml import mean_of_others
from mltk.contracts import Objective
from mltk.engines.analytic import AnalyticEngine, AnalyticLinearization
from mltk.ops import LogLikelihood, PolicyLoss
from mltk.optim.transforms import Scale

MODEL = mltk.models.mlp([1, 4, 1], activation="tanh")
EPISODE = mltk.data.Sinusoid(5, 6).sample(3, 0, NUMPY)
GOALS = mltk.data.Navigation(4, 5).sample(3, 0, NUMPY)
POLICY = mltk.models.mlp([2, 4, 2], activation="tanh")
RATE = 0.05
DESCENTS = (MAML, LearnedOptimizer, ImplicitMAML, Reptile)


def make(kind, model=MODEL, loss="mse", steps=1, rate=RATE, **options):
    """A learner that takes plain gradient steps."""
    if kind is StochasticMAML:
        return StochasticMAML(
            POLICY if model is MODEL else model, inner_lr=rate, inner_steps=steps, **options
        )
    if kind is LearnedOptimizer:
        return kind(model, loss, options.pop("transform", Scale()), steps, rate, **options)
    if kind is ImplicitMAML:
        options = {"reg_lambda": 1e-12} | options  # the proximal term is nothing
    return kind(model, loss, inner_lr=rate, inner_steps=steps, **options)


def adapted(learner, meta=None):
    """The meta-parameters, and the parameters after adaptation."""
    meta = learner.init(NUMPY, 0) if meta is None else meta
    if isinstance(learner, StochasticMAML):
        return meta, learner.adapt(meta, GOALS)
    return meta, learner.adapt(meta, EPISODE.support_x, EPISODE.support_y)


def value_and_grad(learner):
    tasks = GOALS if isinstance(learner, StochasticMAML) else EPISODE
    return learner.value_and_grad(learner.init(NUMPY, 0), tasks)


def gradient(params, loss="mse", model=MODEL):
    """The gradient of the support loss, per task."""
    objective = Objective(model, mltk.ops.loss(loss))
    return flat(NUMPY.engine.linearize(objective, params, EPISODE.support_x, EPISODE.support_y).grad)


@shows(*DESCENTS, StochasticMAML, of="model")
def the_parameters_are_the_model_s(kind):
    for model in (mltk.models.mlp([2, 3, 2]), mltk.models.mlp([2, 5, 4, 2])):
        learner = make(kind, model)
        found = {name: leaf.shape for name, leaf in flat(learner.init(NUMPY, 0)).items()}
        assert {name: shape for name, shape in found.items() if name in model.shapes} == model.shapes


@shows(*DESCENTS, of="loss")
def steps_and_value_are_those_of_the_loss(kind):
    for name in ("mse", "smooth_l1"):
        learner = make(kind, loss=name)
        meta, state = adapted(learner)
        for key, slope in gradient(meta, name).items():
            close(flat(state)[key], flat(meta)[key] - RATE * slope)
        outputs = learner.predict(state, EPISODE.query_x)
        expected, _ = mltk.ops.loss(name).forward({"target": EPISODE.query_y}, outputs)
        close(value_and_grad(learner)[0], expected.mean())


@shows(MAML, ImplicitMAML, Reptile, of="inner_lr")
@shows(LearnedOptimizer, of="lr")
def a_step_goes_so_far_along_the_gradient(kind):
    for rate in (0.01, 0.3):
        meta, state = adapted(make(kind, rate=rate))
        for name, slope in gradient(meta).items():
            close(flat(state)[name], flat(meta)[name] - rate * slope)


@shows(StochasticMAML, of="inner_lr")
def a_sampled_step_goes_so_far(kind):
    moved = []
    for rate in (0.01, 0.3):
        meta, state = adapted(make(kind, rate=rate))
        moved.append({name: (leaf - flat(meta)[name]) / rate for name, leaf in flat(state).items()})
    for name, direction in moved[0].items():
        assert np.abs(direction).max() > 0
        close(moved[1][name], direction, 1e-8)


@shows(*DESCENTS, of="inner_steps")
def steps_are_taken_one_after_the_other(kind):
    _, once = adapted(make(kind, steps=1))
    if kind is LearnedOptimizer:
        once = once | {"transform": make(kind).init(NUMPY, 0)["transform"]}
    _, again = adapted(make(kind, steps=1), once)
    for name, leaf in flat(adapted(make(kind, steps=2))[1]).items():
        close(leaf, flat(again)[name])


@shows(StochasticMAML, of="inner_steps")
def each_step_samples_new_trajectories(kind):
    for steps in (0, 1, 3):
        with calls(type(GOALS), "rollout") as rollouts:
            adapted(make(kind, steps=steps))
        assert [args[1] for args, _ in rollouts] == list(range(steps))


@shows(MAML, LearnedOptimizer, of="first_order")
def first_order_is_the_query_s_gradient_at_the_end(kind):
    learner = make(kind, steps=3, first_order=True)
    _, state = adapted(learner)
    _, grads = value_and_grad(learner)
    params = {name: leaf for name, leaf in state.items() if name in MODEL.init(NUMPY, 0)}
    objective = Objective(MODEL, mltk.ops.loss("mse"))
    query = NUMPY.engine.linearize(objective, params, EPISODE.query_x, EPISODE.query_y).grad
    for name, leaf in flat(query).items():
        close(flat(grads)[name], leaf.mean(0))
    exact = flat(value_and_grad(replace(learner, first_order=False))[1])
    assert max(np.abs(exact[name] - flat(grads)[name]).max() for name in exact) > 1e-6


@shows(StochasticMAML, of="first_order")
def first_order_takes_no_hessian_products(kind):
    counts = []
    for first_order in (False, True):
        with calls(AnalyticLinearization, "hvp") as products:
            value_and_grad(make(kind, steps=3, first_order=first_order))
        counts.append(len(products))
    assert counts == [3, 0]


@shows(MAML, LearnedOptimizer, StochasticMAML, of="checkpoint")
def few_points_are_kept_and_the_numbers_are_the_same(kind):
    results, most = [], []
    for checkpoint in (False, True):
        learner = make(kind, steps=12, rate=0.01, checkpoint=checkpoint)
        with alive(AnalyticLinearization) as linearizations:
            results.append(value_and_grad(learner))
        most.append(linearizations.most)
    assert most[1] <= 3 < 12 <= most[0]
    close(results[1][0], results[0][0])
    for name, leaf in flat(results[0][1]).items():
        close(flat(results[1][1])[name], leaf)


@shows(MAML, LearnedOptimizer, of="adapt_only")
def what_is_named_moves_and_nothing_else(kind):
    names = list(MODEL.shapes)
    head = [name for name in names if name.startswith("2.")]
    body = [name for name in names if name not in head]
    for given, moving in (("head", head), ("body", body), (("0.bias",), ["0.bias"]), (None, names)):
        meta, state = adapted(make(kind, adapt_only=given))
        for name in names:
            moved = flat(state)[name] - flat(meta)[name]
            assert (np.abs(moved).max() > 0) == (name in moving)


@shows(MAML, of="learn_lr")
def step_sizes_are_learned_one_for_all_a_tensor_or_an_element(kind):
    shapes = MODEL.shapes
    expected = {
        "scalar": {"lr": ()},
        "tensor": {f"lr.{name}": () for name in shapes},
        "element": {f"lr.{name}": shape for name, shape in shapes.items()},
        None: {},
    }
    for granularity, learned in expected.items():
        learner = make(kind, learn_lr=granularity)
        assert learner.meta_shapes == shapes | learned
        grads = flat(value_and_grad(learner)[1])
        assert {name: leaf.shape for name, leaf in grads.items()} == learner.meta_shapes
        # Zero step sizes leave everything where it is.
        meta = learner.init(NUMPY, 0)
        if learned:
            meta["lr"] = tree.map(np.zeros_like, meta["lr"]) if granularity != "scalar" else np.zeros(())
            _, state = adapted(learner, meta)
            for name in shapes:
                close(flat(state)[name] - flat(meta)[name], np.zeros_like(flat(state)[name]))


@shows(MAML, of="lr_per_step")
def each_step_has_a_step_size_of_its_own(kind):
    learner = make(kind, steps=3, learn_lr="scalar", lr_per_step=True)
    meta = learner.init(NUMPY, 0)
    assert meta["lr"].shape == (3,)
    assert replace(learner, lr_per_step=False).init(NUMPY, 0)["lr"].shape == ()
    meta["lr"] = np.asarray([0.0, 0.1, 0.0])  # only the second step moves
    plain = {name: leaf for name, leaf in meta.items() if name != "lr"}
    for name, leaf in flat(adapted(make(kind, rate=0.1), plain)[1]).items():
        close(flat(adapted(learner, meta)[1])[name], leaf)


@shows(LearnedOptimizer, of="transform")
def steps_go_along_the_transformed_gradient(kind):
    for factor in (3.0, -0.5):
        meta, state = adapted(make(kind, transform=Scale(factor, per="scalar")))
        assert flat(meta)["transform.scale"] == factor
        for name, slope in gradient(meta).items():
            close(flat(state)[name], flat(meta)[name] - RATE * factor * slope)


@shows(LearnedOptimizer, of="learn_init")
def the_start_has_a_gradient_or_none(kind):
    for learns in (True, False):
        grads = flat(value_and_grad(make(kind, learn_init=learns))[1])
        for name, leaf in grads.items():
            assert leaf.any() == (learns or name.startswith("transform."))


@shows(ImplicitMAML, of="reg_lambda")
def the_proximal_term_pulls_to_the_start(kind):
    # From the second step on; the implicit gradient divides by it, which its own tests show.
    for strength in (0.5, 4.0):
        meta, once = adapted(make(kind, reg_lambda=strength))
        _, twice = adapted(make(kind, steps=2, reg_lambda=strength))
        for name, slope in gradient(once).items():
            pulled = slope + strength * (flat(once)[name] - flat(meta)[name])
            close(flat(twice)[name], flat(once)[name] - RATE * pulled)


@shows(ImplicitMAML, of="cg_steps")
def each_step_of_conjugate_gradients_is_a_hessian_product(kind):
    for steps in (1, 4):
        with calls(AnalyticLinearization, "hvp") as products:
            value_and_grad(make(kind, reg_lambda=1.0, cg_steps=steps))
        assert len(products) == steps


@shows(Reptile, of="inner_batch")
def so_many_examples_a_step_in_turn(kind):
    for batch, starts in ((None, [0, 0, 0, 0]), (2, [0, 2, 0, 2]), (1, [0, 1, 2, 3]), (9, [0, 0, 0, 0])):
        with calls(AnalyticEngine, "linearize") as seen:
            adapted(make(kind, steps=4, inner_batch=batch))
        for (args, _), start in zip(seen, starts, strict=True):
            wanted = slice(start, start + (batch or 5))
            np.testing.assert_array_equal(args[2], EPISODE.support_x[:, wanted])


@shows(StochasticMAML, of="sampled_step")
def samples_are_data_and_their_probability_counts(kind):
    for sampled in (False, True):
        with calls(AnalyticEngine, "linearize") as seen:
            value_and_grad(make(kind, steps=2, sampled_step=sampled))
        losses = [args[0].loss for args, _ in seen]
        assert sum(isinstance(loss, LogLikelihood) for loss in losses) == 2 * sampled
        boxes = [loss.box for loss in losses if isinstance(loss, PolicyLoss)]
        assert boxes == [not sampled, not sampled, True]


@shows(StochasticMAML, of="baseline")
def the_baseline_is_the_mean_of_the_other_trajectories(kind):
    for baseline in (False, True):
        with calls(AnalyticEngine, "linearize") as seen:
            value_and_grad(make(kind, baseline=baseline))
        for args, _ in seen:
            costs, baselines = (args[3][..., column].reshape(3, 4, 5) for column in (-2, -1))
            to_go = costs[..., ::-1].cumsum(-1)[..., ::-1]
            close(baselines, mean_of_others(to_go, axis=1) if baseline else np.zeros_like(costs))
