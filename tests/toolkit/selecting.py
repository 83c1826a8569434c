"""What is gained by choosing a learner for each task, on tasks of other seeds or classes: a script."""

import argparse
from dataclasses import dataclass, replace

import numpy as np

import mltk
from mltk import algorithms
from mltk.data import Blobs, ClassPart, LinearRegression, Mixture, Omniglot, Sinusoid
from mltk.models import Sequential, conv4, mlp
from mltk.toolkit import AlgorithmSelector, gather

NUMPY = mltk.backend("numpy")


@dataclass(frozen=True)
class Stretched:
    """Tasks whose inputs are stretched along each axis, all examples of a task alike.

    Learners that measure distances are misled by that, and those that fit weights are not.
    """

    tasks: object
    factor: float = 30.0

    def sample(self, n_tasks, rng, backend):
        rng = np.random.default_rng(rng)
        episode = self.tasks.sample(n_tasks, rng, backend)
        shape = (n_tasks, 1, episode.support_x.shape[-1])
        factors = backend.asarray(self.factor ** rng.uniform(-1, 1, shape))
        return replace(episode, support_x=factors * episode.support_x, query_x=factors * episode.query_x)


def blobs(*, stretch=30.0):
    """Round and stretched ones, with few and with many shots: distances, or weights, are what to go by."""
    few = Blobs(ways=5, shots=2, queries=10, features=8)
    kinds = few, replace(few, shots=10)
    return Mixture((*kinds, *(Stretched(each, stretch) for each in kinds)), together=True)


def lines(shots=10):
    """Lines through zero."""
    return LinearRegression(shots=shots, queries=20, features=1, x_scale=3.0, noise=0.3)


def curves():
    """Sinusoids and lines."""
    return Mixture((Sinusoid(shots=10, queries=20), lines()))


def started(learners, backend=NUMPY):
    """Pairs with the meta-parameters that learners start with."""
    return {name: (learner, learner.init(backend, 0)) for name, learner in learners.items()}


def trained(learners, tasks, backend=NUMPY, **how):
    """Pairs with meta-parameters that were trained."""
    return {
        name: (learner, mltk.train(learner, tasks, backend=backend, seed=0, **how).meta_params)
        for name, learner in learners.items()
    }


def on_distances_and_weights():
    """Learners of blobs that need no training."""
    inputs = Sequential([])
    learners = {
        "ridge": algorithms.RidgeRegression(inputs, reg_lambda=0.01),
        "matching": algorithms.Matching(inputs),
        "prototypical": algorithms.Prototypical(inputs),
    }
    return started(learners)


def of_blobs(steps):
    inner = {"inner_lr": 0.1, "inner_steps": 5}
    gradients = {
        "maml": algorithms.MAML(mlp([8, 32, 5]), "cross_entropy", **inner),
        "anil": algorithms.ANIL(mlp([8, 32, 5]), "cross_entropy", **inner),
    }
    logistic = {"logistic": algorithms.LogisticRegression(Sequential([]))}
    pairs = on_distances_and_weights() | started(logistic)
    return pairs | trained(gradients, blobs(), steps=steps, meta_batch=8), blobs(), blobs(), NUMPY


def of_curves(steps):
    net, inner = mlp([1, 40, 40, 1]), {"inner_lr": 0.01, "inner_steps": 5}
    straight = {"ridge": algorithms.RidgeRegression(Sequential([]), reg_lambda=0.01, scale=1.0)}
    gradients = {
        "maml": algorithms.MAML(net, "mse", **inner),
        "anil": algorithms.ANIL(net, "mse", **inner),
    }
    waves = Sinusoid(shots=10, queries=20)
    pairs = started(straight) | trained(gradients, waves, steps=steps, meta_batch=8)
    return pairs, curves(), curves(), NUMPY


def of_omniglot(steps):
    backend = mltk.backend("torch")
    net = conv4(in_channels=1, image_size=28, width=16)
    whole = conv4(in_channels=1, image_size=28, width=16, out_features=5)
    inner = {"inner_lr": 0.1, "inner_steps": 5}
    learners = {
        "ridge": algorithms.RidgeRegression(net, reg_lambda=0.01),
        "matching": algorithms.Matching(net),
        "prototypical": algorithms.Prototypical(net),
        "logistic": algorithms.LogisticRegression(net),
        "maml": algorithms.MAML(whole, "cross_entropy", **inner),
        "anil": algorithms.ANIL(whole, "cross_entropy", **inner),
    }
    data = Omniglot("small1")
    pairs = trained(learners, data.tasks(ways=5, shots=1, queries=5), backend, steps=steps, meta_batch=4)
    rest = ClassPart(data.held_out(), share=0.5)
    sources = [
        Mixture(tuple(part.tasks(ways=5, shots=shots, queries=15) for shots in (1, 5)), together=True)
        for part in (rest, rest.other)
    ]
    return pairs, *sources, backend


FAMILIES = {"blobs": of_blobs, "curves": of_curves, "omniglot": of_omniglot}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--steps", type=int, default=1000, help="of training")
    parser.add_argument("--episodes", type=int, default=1000, help="to learn from, and as many to judge on")
    parser.add_argument("--models", nargs="+", default=["forest", "boosting", "linear"])
    asked = parser.parse_args()
    pairs, tasks, others, backend = FAMILIES[asked.family](asked.steps)
    evidence = gather(pairs, tasks, episodes=asked.episodes, backend=backend)
    fresh = gather(pairs, others, episodes=asked.episodes, seed=1, backend=backend)
    print(evidence)
    for model in asked.models:
        selector = AlgorithmSelector(model=model).fit(evidence)
        print(f"\n{model}: {selector!r}\nOn fresh tasks: {selector.judge(fresh)!r}")
        names, counts = np.unique(selector.choose(fresh.known), return_counts=True)
        print(dict(zip(names.tolist(), counts.tolist(), strict=True)), flush=True)
