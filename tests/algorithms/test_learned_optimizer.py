"""Learned optimisers: the unrolled gradient is exact for the start and for the transform, by every route."""

import numpy as np
import pytest
import torch
from assertions import meta_gradient, same, same_gradient
from routes import AUTOGRAD, NUMPY
from torch.func import functional_call

import mltk
from mltk import tree
from mltk.algorithms import MAML, LearnedOptimizer, MetaSGD
from mltk.optim.transforms import Bias, Clip, Kronecker, MetaCurvature, Momentum, Network, Scale, chain
from mltk.training.config import from_config, to_config

MODEL = mltk.models.mlp([2, 4, 3], activation="tanh")

TRANSFORMS = {
    "scale": Scale((0.5, 1.5)),
    "scale-tensor": Scale(per="tensor"),
    "scale-scalar": Scale(per="scalar"),
    "bias": Bias(),
    "momentum": Momentum(),
    "kronecker": Kronecker(),
    "meta-curvature": MetaCurvature(),
    "network": Network(),
    "clip": Clip(0.5),
    "smooth-chain": chain(Kronecker(), Momentum(), Scale()),
    "chain": chain(Kronecker(), Momentum(), Scale(), Clip(0.7)),
}


def episode_of(backend, *, tasks=3, shots=4, queries=5, features=2, outputs=3, seed=0):
    """Random regression tasks."""
    rng = np.random.default_rng(seed)
    shapes = [(shots, features), (shots, outputs), (queries, features), (queries, outputs)]
    return mltk.Episode(*(backend.asarray(rng.standard_normal((tasks, *s))) for s in shapes), backend=backend)


def moved(learner, backend, *, seed=0, by=0.1):
    """Initial meta-parameters, away from the identity at which transforms start."""
    rng = np.random.default_rng(seed)
    meta = learner.init(NUMPY, seed)
    return tree.map(lambda p: backend.asarray(p + by * rng.standard_normal(p.shape)), meta)


def by_autograd(learner, meta, episode):
    """The same loop, task by task, as a Torch user writes it: autograd goes through all of it."""
    leaves = tree.map(lambda p: AUTOGRAD.asarray(p).requires_grad_(), meta)
    learned = leaves.get("transform", {})
    module = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()
    total = 0.0
    for task in range(episode.support_x.shape[0]):
        x, y, qx, qy = (
            torch.as_tensor(NUMPY.to_numpy(getattr(episode, name)))[task]
            for name in ("support_x", "support_y", "query_x", "query_y")
        )
        params = tree.flatten({key: leaf for key, leaf in leaves.items() if key != "transform"})
        wide = tree.unflatten({name: leaf[None] for name, leaf in params.items()})
        state = learner.transform.start(wide)
        for _ in range(learner.inner_steps):
            loss = torch.nn.functional.mse_loss(functional_call(module, params, (x,)), y)
            grads = torch.autograd.grad(loss, list(params.values()), create_graph=not learner.first_order)
            named = tree.unflatten({name: g[None] for name, g in zip(params, grads, strict=True)})
            directions, state, _ = learner.transform.forward(learned, named, state)
            flat = tree.flatten(directions)
            params = {name: p - learner.lr * flat[name][0] for name, p in params.items()}
        total += torch.nn.functional.mse_loss(functional_call(module, params, (qx,)), qy)
    total = total / episode.support_x.shape[0]
    flat = tree.flatten(leaves)
    grads = torch.autograd.grad(total, list(flat.values()), materialize_grads=True)
    return total.item(), dict(zip(flat, grads, strict=True))


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_the_gradient_is_that_of_an_unrolled_loop(backend64, name, steps, first_order):
    learner = LearnedOptimizer(MODEL, "mse", TRANSFORMS[name], steps, 0.3, first_order=first_order)
    expected = by_autograd(learner, moved(learner, NUMPY), episode_of(NUMPY))
    same_gradient(learner.value_and_grad(moved(learner, backend64), episode_of(backend64)), expected)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_scale_is_meta_sgd(backend64, steps):
    """A learned number for each element, and the constant step 1: Li et al. (2017), to the last bit."""
    meta_sgd = MetaSGD(MODEL, "mse", inner_steps=steps)
    learner = LearnedOptimizer(MODEL, "mse", Scale((0.005, 0.1)), steps, 1.0)
    meta = meta_sgd.init(backend64, 3)
    start = learner.init(backend64, 3)
    same(start["transform"], meta["lr"])
    value, grads = meta_sgd.value_and_grad(meta, episode_of(backend64))
    found, own = learner.value_and_grad(start, episode_of(backend64))
    assert float(found) == float(value)
    grads["transform"] = grads.pop("lr")
    same(own, grads)


def test_a_transform_that_starts_at_the_identity_starts_as_maml(backend64):
    for transform in (Scale(), Bias(), Momentum(), Kronecker(), MetaCurvature(), Network()):
        learner = LearnedOptimizer(MODEL, "mse", transform, 1, 0.1)
        found = meta_gradient(learner, backend64, episode_of(backend64))
        del found[1]["transform"]
        same_gradient(
            found, meta_gradient(MAML(MODEL, "mse", inner_lr=0.1), backend64, episode_of(backend64))
        )


@pytest.mark.parametrize("adapt_only", [None, "head", "0"])
@pytest.mark.parametrize("name", ["scale", "momentum", "network", "chain"])
def test_checkpoints_change_nothing(backend64, name, adapt_only):
    results = []
    for checkpoint in (False, True):
        learner = LearnedOptimizer(
            MODEL, "mse", TRANSFORMS[name], 5, 0.2, checkpoint=checkpoint, adapt_only=adapt_only
        )
        results.append(learner.value_and_grad(moved(learner, backend64), episode_of(backend64)))
    same_gradient(*results, tolerance=1e-12)


@pytest.mark.parametrize("name", ["scale", "momentum", "chain"])
def test_the_start_can_be_left_alone(backend64, name):
    found = {}
    for learn_init in (True, False):
        learner = LearnedOptimizer(MODEL, "mse", TRANSFORMS[name], 3, 0.2, learn_init=learn_init)
        _, found[learn_init] = learner.value_and_grad(moved(learner, backend64), episode_of(backend64))
    same(found[False]["transform"], found[True]["transform"])
    left, moving = (tree.flatten(found[learn_init]) for learn_init in (False, True))
    for key in MODEL.shapes:
        assert (left[key] == 0).all()
        assert (moving[key] != 0).any()


def test_training_moves_the_transform_and_not_the_start():
    tasks = mltk.data.LinearRegression(4, 4, features=2)
    learner = LearnedOptimizer(mltk.models.mlp([2, 4, 1]), "mse", Scale(), 2, 0.1, learn_init=False)
    run = mltk.train(learner, tasks, backend=NUMPY, steps=30, seed=0)
    start = learner.init(NUMPY, 0)
    for name, leaf in tree.flatten(run.meta_params).items():
        changed = (leaf != tree.flatten(start)[name]).any()
        assert changed == name.startswith("transform.")


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_run_is_written_and_read(tmp_path, name):
    learner = LearnedOptimizer(mltk.models.mlp([1, 4, 1]), "mse", TRANSFORMS[name], 2, 0.05)
    tasks = mltk.data.Sinusoid(3, 3)
    whole = mltk.train(learner, tasks, backend=NUMPY, steps=6, out=tmp_path / "whole", checkpoint_every=2)
    mltk.train(learner, tasks, backend=NUMPY, steps=4, out=tmp_path / "part", log_every=1)
    resumed = mltk.train(learner, tasks, backend=NUMPY, steps=6, out=tmp_path / "part", resume=True)
    saved = mltk.training.runs.load_run(tmp_path / "whole")
    assert saved.algorithm == learner
    assert from_config(to_config(learner)) == learner
    for run in (resumed, saved.run):
        same(run.meta_params, whole.meta_params)
