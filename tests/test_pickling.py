"""Backends, episodes, modules and learners can be copied and sent to other processes."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from assertions import same_gradient
from mltk_backends.torch import ModuleModel
from torch import nn

import mltk
from mltk.optim.transforms import Scale

MODEL = mltk.models.mlp([1, 4, 1], activation="tanh")
COPIES = pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))], ids=["deepcopy", "pickle"]
)


def sinusoids(backend):
    return mltk.data.Sinusoid(5, 5).sample(2, 0, backend)


def arrays(episode):
    names = ("support_x", "support_y", "query_x", "query_y")
    return [episode.backend.to_numpy(getattr(episode, name)) for name in names]


@COPIES
def test_backends_and_episodes_are_what_they_were(backend64, copied):
    episode = sinusoids(backend64)
    again = copied(episode)
    assert again.backend == backend64
    assert again.backend.xp is backend64.xp
    assert again.ways == episode.ways
    for one, other in zip(arrays(again), arrays(episode), strict=True):
        np.testing.assert_array_equal(one, other)


LEARNERS = {
    "maml": lambda: mltk.algorithms.MAML(MODEL, "mse"),
    "meta-sgd": lambda: mltk.algorithms.MetaSGD(MODEL, "mse"),
    "anil": lambda: mltk.algorithms.ANIL(MODEL, "mse"),
    "reptile": lambda: mltk.algorithms.Reptile(MODEL, "mse"),
    "imaml": lambda: mltk.algorithms.ImplicitMAML(MODEL, "mse"),
    "learned": lambda: mltk.algorithms.LearnedOptimizer(MODEL, "mse", Scale()),
    "ridge": lambda: mltk.algorithms.RidgeRegression(MODEL),
    "Bayesian ridge": lambda: mltk.algorithms.BayesianRidge(MODEL),
}


@COPIES
@pytest.mark.parametrize("name", LEARNERS)
def test_learners_give_what_they_gave_also_after_use(backend64, copied, name):
    learner, episode = LEARNERS[name](), sinusoids(backend64)
    params = learner.init(backend64, 0)
    expected = learner.value_and_grad(params, episode)
    again = copied(learner)
    assert again == learner
    same_gradient(again.value_and_grad(params, episode), expected, 0)
    # Copied arrays may lie otherwise in memory, and be summed in another order.
    same_gradient(again.value_and_grad(copied(params), copied(episode)), expected, 1e-13)


@COPIES
@pytest.mark.parametrize("used", [True, False])
def test_wrapped_modules_too(copied, used):
    backend = mltk.backend("torch", dtype="float64")
    module, episode = (
        nn.Sequential(nn.Linear(1, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1)),
        sinusoids(backend),
    )
    module[0].weight.requires_grad_(False)
    learner = mltk.algorithms.ANIL(ModuleModel(module), "mse")
    params = learner.init(backend, 0)
    if used:
        learner.value_and_grad(params, episode)
    again = copied(learner)
    same_gradient(again.value_and_grad(params, episode), learner.value_and_grad(params, episode), 0)
    assert again.model.shapes == learner.model.shapes


def test_wrapped_modules_that_torch_does_not_pickle_can_be_deep_copied():
    backend = mltk.backend("torch", dtype="float64")
    model, x = (
        ModuleModel(nn.utils.parametrizations.weight_norm(nn.Linear(1, 1))),
        sinusoids(backend).support_x,
    )
    params = model.init(backend, 0)
    torch.testing.assert_close(copy.deepcopy(model).apply(params, x), model.apply(params, x))


@COPIES
def test_copies_of_a_module_are_originals(backend64, copied):
    module = mltk.Module(MODEL, MODEL.init(backend64, 0), backend=backend64)
    next(module.parameters()).requires_grad_(False)
    x, y = (getattr(sinusoids(backend64), f"support_{kind}")[0] for kind in "xy")
    clone = mltk.clone_module(module)
    mltk.update_module(clone, [None if g is None else -0.1 * g for g in clone.grad("mse", x, y)])
    for one in (module, clone):
        again = copied(one)
        np.testing.assert_array_equal(np.asarray(again(x)), np.asarray(one(x)))
        flags = [p.requires_grad for p in again.parameters()]
        assert flags == [False, True, True, True]
        assert all(p.is_leaf for p in again.parameters())
        assert not any(np.asarray(g).any() for g in mltk.meta_grad(again, "mse", x, y, wrt=module))
        inner = mltk.update_module(mltk.clone_module(again), list(again.grad("mse", x, y)))
        found = mltk.meta_grad(inner, "mse", x, y, wrt=again)
        assert all(np.asarray(g).any() for g in found[1:])


def test_an_episode_can_be_read_by_a_process_that_has_imported_nothing():
    episode = sinusoids(mltk.backend("torch", dtype="float64"))
    program = (
        "import pickle, sys; e = pickle.load(sys.stdin.buffer); "
        "print(e.backend.name, e.backend.dtype, float(e.support_x.sum()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=pickle.dumps(episode), capture_output=True, check=True
    )
    name, dtype, total = done.stdout.split()
    assert (name, dtype) == (b"torch", b"float64")
    assert float(total) == float(episode.support_x.sum())


class Episodes(torch.utils.data.Dataset):
    """Episodes by their number."""

    def __init__(self, backend):
        self.backend = backend

    def __len__(self):
        return 5

    def __getitem__(self, number):
        if number >= len(self):
            raise IndexError(number)
        return mltk.data.Sinusoid(3, 3).sample(2, number, self.backend)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_a_data_loader_whose_workers_make_episodes_ends(name):
    backend = mltk.backend(name)
    dataset = Episodes(backend)
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2, timeout=60)
    found = list(loader)
    assert len(found) == 5
    for episode, expected in zip(found, dataset, strict=True):
        assert episode.backend == backend
        for one, other in zip(arrays(episode), arrays(expected), strict=True):
            np.testing.assert_array_equal(one, other)
