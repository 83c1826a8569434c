"""The meta-gradients that are timed, and what is aimed at."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mltk import backend, models, tree
from mltk.checks import check_choice
from mltk.data import Sinusoid
from mltk.episode import Episode
from mltk.models import Sequential
from mltk.peers import Case

SEED = 1


class Aim(NamedTuple):
    """How many times as fast as a peer one of mltk's rows is meant to be.

    Attributes:
        name: A row of mltk.
        peer: Another row.
        times: The peer's time divided by mltk's, at least.
    """

    name: str
    peer: str
    times: float


SINUSOID_AIMS = (
    Aim("mltk-numpy", "higher", 25),
    Aim("mltk-numpy", "torchopt", 25),
    Aim("mltk-numpy", "torch-func", 3),
    Aim("mltk-numpy", "jax", 0.7),
)
CONV4_AIMS = {
    1: (Aim("mltk-torch-analytic", "torch-loop", 1.5),),
    15: (Aim("mltk-torch-analytic", "torch-loop", 1.3),),
}
PROTOTYPICAL_AIMS = (
    Aim("mltk-torch-analytic", "torch-loop", 1),
    Aim("mltk-torch-analytic", "torch-channels-last", 1),
    Aim("mltk-numpy", "mltk-torch-analytic", 0.25),
)
CHECKPOINT_AIM = 1.2
"""Peak memory at 20 inner steps over that at 1, with ``checkpoint=True``, at most."""

WARM_UP: dict[str, dict[str, int]] = {
    "sinusoid-maml": {"tasks": 2, "shots": 2, "queries": 2, "width": 4, "inner_steps": 1},
    "conv4-maml": {"tasks": 2, "ways": 2, "queries": 1, "width": 4, "image_size": 16, "inner_steps": 1},
    "prototypical": {"tasks": 2, "ways": 3, "shots": 2, "queries": 2, "width": 4, "image_size": 16},
}
"""Settings of a small version of each case, that loads a library without using memory."""


def build(name: str, **settings: int) -> Case:
    """A case by its name.

    Raises:
        SettingError: If there is no case of that name.
    """
    functions: dict[str, Callable[..., Case]] = {
        "sinusoid-maml": sinusoid_maml,
        "conv4-maml": conv4_maml,
        "prototypical": prototypical,
    }
    check_choice("benchmark", name, functions)
    return functions[name](**settings)


def sinusoid_maml(
    *, tasks: int = 25, shots: int = 10, queries: int = 10, width: int = 40, inner_steps: int = 5
) -> Case:
    """Sinusoid regression with a network of two hidden layers (Finn et al. 2017), in float32."""
    numpy = backend("numpy")
    model = models.mlp([1, width, width, 1])
    episode = Sinusoid(shots, queries).sample(tasks, SEED, numpy)
    return _case(model, "mse", episode, inner_steps)


def conv4_maml(
    *,
    tasks: int = 4,
    ways: int = 5,
    shots: int = 1,
    queries: int = 15,
    width: int = 64,
    image_size: int = 28,
    inner_steps: int = 5,
) -> Case:
    """Few-shot classification with four blocks of convolutions, in float32, on random images."""
    model = models.conv4(1, image_size, width=width, out_features=ways)
    return _case(model, "cross_entropy", _noise(tasks, ways, shots, queries, image_size), inner_steps)


def prototypical(
    *, tasks: int = 1, ways: int = 20, shots: int = 1, queries: int = 5, width: int = 64, image_size: int = 28
) -> Case:
    """A prototypical network on four blocks of convolutions, in float32, on random images."""
    model = models.conv4(1, image_size, width=width)
    return _case(model, "cross_entropy", _noise(tasks, ways, shots, queries, image_size))


def in_double(case: Case) -> Case:
    """The same numbers in float64, to compute a reference with."""
    double = backend("numpy", dtype="float64")
    params = {name: double.asarray(value) for name, value in case.params.items()}
    return dataclasses.replace(case, params=params, episode=case.episode.to(double))


def _noise(tasks: int, ways: int, shots: int, queries: int, image_size: int) -> Episode:
    """Tasks of random images; ``shots`` and ``queries`` are numbers a class."""
    numpy = backend("numpy")
    rng = np.random.default_rng(SEED)

    def examples(per_class: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.tile(np.arange(ways), (tasks, per_class))
        return numpy.asarray(rng.normal(size=(*labels.shape, 1, image_size, image_size))), labels

    return Episode(*examples(shots), *examples(queries), ways=ways, backend=numpy)


def _case(model: Sequential, loss: str, episode: Episode, inner_steps: int = 0) -> Case:
    params = tree.flatten(model.init(episode.backend, SEED))
    return Case(model, loss, params=params, episode=episode, inner_lr=0.01, inner_steps=inner_steps)
