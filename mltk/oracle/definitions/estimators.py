"""Estimators of derivatives from samples, in 50 digits: a box is written as it is defined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mltk.oracle.case import Values
from mltk.oracle.definitions.operations import log_probability
from mltk.oracle.definitions.tensor import Tensor, constant


def box(x: Tensor) -> Tensor:
    """exp(x - ⊥(x)), where ⊥ lets no derivative through (Foerster et al. 2018)."""
    return (x - x.detach()).exp()


def magic_box(settings: Mapping[str, Any], inputs: Values, point: Mapping[str, Tensor]) -> Tensor:
    """The box of each number."""
    return box(point["x"])


def dice(logs: Tensor, costs: Tensor, baseline: Tensor | None) -> Tensor:
    """Equations 7 and 11 of Foerster et al. (2018), of ``(T, N, H)``: the mean over trajectories."""
    terms = box(logs @ _until(logs.shape[-1])) * costs
    if baseline is not None:
        terms = terms + (1 - box(logs)) * baseline
    return terms.sum(-1).mean(-1)


def surrogate(settings: Mapping[str, Any], inputs: Values, point: Mapping[str, Tensor]) -> Tensor:
    """That of given log-probabilities."""
    baseline = constant(inputs["baseline"]) if "baseline" in inputs else None
    return dice(point["x"], constant(inputs["costs"]), baseline)


def policy_loss(settings: Mapping[str, Any], inputs: Values, point: Mapping[str, Tensor]) -> Tensor:
    """That of a policy's outputs; without a box, log-probabilities times costs to go less baselines."""
    logs = log_probability(settings, point["x"], inputs["actions"])
    shape = (len(logs), -1, settings["horizon"])
    logs, costs, baseline = (
        each.reshape(shape) for each in (logs, constant(inputs["costs"]), constant(inputs["baseline"]))
    )
    if settings["box"]:
        return dice(logs, costs, baseline)
    advantages = costs @ _until(settings["horizon"]).mT - baseline
    return (logs * advantages).sum(-1).mean(-1)


def log_likelihood(settings: Mapping[str, Any], inputs: Values, point: Mapping[str, Tensor]) -> Tensor:
    """The log-probability of all actions of a task together."""
    return log_probability(settings, point["x"], inputs["actions"]).sum(-1)


def _until(steps: int) -> Tensor:
    """The matrix that a row times it is its cumulative sums."""
    return constant(np.triu(np.ones((steps, steps))))
