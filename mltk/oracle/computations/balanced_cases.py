"""Ordinary cases in the form that most code takes: as many examples of each class, class after class."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mltk import ops
from mltk.models import Sequential, mlp
from mltk.oracle.case import Case
from mltk.oracle.computations.episodes import episode
from mltk.oracle.computations.learner_cases import DEFAULTS


def balanced(**settings: Any) -> Iterable[Case]:
    """Ordinary cases of balanced classification, each large in another way."""
    settings = {**DEFAULTS, **settings}
    yield episode(
        "four-tasks",
        "four tasks: catches what is divided by two, and tasks that are left out",
        mlp((2, 4, 3), activation="tanh"),
        features=(2,),
        tasks=4,
        shots=(2, 2, 2),
        queries=3,
        balanced=True,
        seed=21,
        **{**settings, "inner_lr": 0.5},
    )
    yield episode(
        "eight-steps",
        "eight inner steps: catches loops and graphs of a fixed length",
        mlp((2, 3, 2), activation="sigmoid"),
        features=(2,),
        shots=(2, 2),
        queries=6,
        balanced=True,
        seed=22,
        weights=2.0,
        **{**settings, "inner_lr": 0.4, "inner_steps": 8},
    )
    yield episode(
        "five-way-five-shot",
        "five classes of five examples: catches axes of classes and shots that are exchanged or summed",
        mlp((3, 4, 5), activation="tanh"),
        features=(3,),
        shots=(5, 5, 5, 5, 5),
        queries=10,
        balanced=True,
        seed=23,
        **{**settings, "inner_lr": 0.5},
    )
    yield episode(
        "eleven-layers",
        "layers with two digits in their names: catches an order by name, and depths that are fixed",
        mlp((2, 3, 3, 3, 3, 3, 2), activation="tanh"),
        features=(2,),
        tasks=3,
        shots=(2, 2),
        queries=2,
        balanced=True,
        seed=24,
        weights=2.0,
        **{**settings, "inner_lr": 0.4},
    )
    yield episode(
        "strided-convolution",
        "a convolution with a bias and a stride of two: catches either one left out",
        Sequential(
            [ops.Convolution(1, 2, 3, stride=2, padding=1), ops.Tanh(), ops.Flatten(18), ops.Linear(18, 2)]
        ),
        features=(1, 5, 5),
        tasks=3,
        shots=(2, 2),
        queries=2,
        balanced=True,
        seed=25,
        weights=0.6,
        **settings,
    )
    yield episode(
        "layer-norm",
        "layer norm: catches statistics over the set in place of the features",
        Sequential([ops.Linear(2, 4), ops.LayerNorm(4), ops.Tanh(), ops.Linear(4, 3)]),
        features=(2,),
        shots=(2, 2, 2),
        queries=3,
        balanced=True,
        seed=26,
        **{**settings, "inner_lr": 0.4},
    )
