"""The hardness of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mltk.contracts import Backend
from mltk.oracle.case import Case, Values
from mltk.oracle.computation import Computation, Draw
from mltk.oracle.computations.heads import pulled_back
from mltk.oracle.computations.random_heads import random_head
from mltk.oracle.definitions.hardness import hardness
from mltk.oracle.definitions.heads import truth
from mltk.oracle.routes import both, episode_of
from mltk.task_analysis.hardness import hardness_metric, hardness_value_and_grad
from mltk.tree import Array


def compute_hardness(backend: Backend, settings: Mapping[str, Any], inputs: Values) -> Values:
    """`mltk.hardness_metric` of the inputs as features, and the gradient of its sum over the tasks."""
    episode = episode_of(backend, settings, inputs)
    ways, options = settings["ways"], {name: settings[name] for name in ("temperature", "relu_queries")}

    def value(support_x: Array, query_x: Array) -> Sequence[Array]:
        moved = replace(episode, support_x=support_x, query_x=query_x)
        return [hardness_metric(moved, ways, **options)]

    def by_hand(g: Array, support_x: Array, query_x: Array) -> Sequence[Array]:
        labels = episode.support_y, episode.query_y
        return hardness_value_and_grad(support_x, labels[0], query_x, labels[1], ways=ways, **options)[1:]

    leaves = {"support_x": episode.support_x, "query_x": episode.query_x}
    ones = backend.asarray(np.ones(len(inputs["support_x"])))
    (found,), gradients = pulled_back(backend, value, by_hand, leaves, [ones])
    return {"hardness": found, "gradients": gradients}


def random_hardness(draw: Draw) -> Case:
    """A case without numbers on the kink of the rectifier, and with directions left behind it."""
    import hypothesis
    from hypothesis import strategies as st

    rectified = draw(st.booleans())
    temperature = draw(st.sampled_from([1.0, 0.4, 1.7]))
    case = random_head(draw, temperature=temperature, relu_queries=rectified)
    hypothesis.assume(case.settings["ways"] > 1)
    inputs = dict(case.inputs)
    for name in ("support_x", "query_x"):
        inputs[name] = np.where(inputs[name] == 0, 0.1, inputs[name])
    members = inputs["support_y"][..., None] == np.arange(case.settings["ways"])
    hypothesis.assume((members.mT @ np.maximum(inputs["support_x"], 0)).any(-1).all())
    hypothesis.assume(not rectified or (inputs["query_x"] > 0).any(-1).all())
    return replace(case, inputs=inputs)


COMPUTATIONS = (
    Computation(
        "hardness",
        "The mean log-odds against the right class (Dhillon et al. 2020, equations 6, 7 and 9).",
        {
            "hardness": "of each task (T,)",
            "gradients": "of its sum over the tasks, for support_x (T, N, d) and query_x (T, M, d)",
        },
        both(compute_hardness),
        truth(hardness),
        random_hardness,
        "(params, data, settings): params {}, data.support_x and query_x features (T, N, d) and (T, M, d), "
        "data.support_y and query_y labels, settings.ways, settings.temperature, settings.relu_queries",
    ),
)
