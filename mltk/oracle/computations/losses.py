"""Losses and distributions: value and three derivatives."""
# ruff: noqa: D102 - the four functions are documented once, on Operation

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from mltk import ops
from mltk.contracts import Backend
from mltk.ops import Distribution, Operation
from mltk.ops.operation import Tangent
from mltk.oracle.case import Case, Values
from mltk.oracle.computation import Computation, Draw
from mltk.oracle.computations.operations import outputs, routes
from mltk.oracle.computations.random_operations import random_loss
from mltk.oracle.definitions import operations as exact
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class LogProbability(Operation):
    """The log-probabilities of given actions, ``p["actions"]``, as an operation on a policy's outputs."""

    distribution: Distribution

    def forward(self, p: Tree, x: Array) -> tuple[Array, Any]:
        return self.distribution.log_prob(x, p["actions"])

    def jvp(self, p: Tree, res: Any, dp: Tree, dx: Array | None) -> Array:
        return self.distribution.jvp(res, dx)

    def vjp(self, p: Tree, res: Any, gy: Array, *, wrt_input: bool = True) -> tuple[Tree, Array | None]:
        return {}, self.distribution.vjp(res, gy)

    def jvp_of_vjp(
        self, p: Tree, res: Any, gy: Array, d: Tangent, *, wrt_input: bool = True
    ) -> tuple[Tree, Array | None]:
        return {}, self.distribution.jvp_of_vjp(res, gy, d.x, d.gy)


def distribution(settings: Mapping[str, Any]) -> Distribution:
    """The distribution of a case."""
    if settings["distribution"] == "gaussian":
        return ops.Gaussian(settings["std"])
    return ops.Categorical()


def prepare_loss(backend: Backend, settings: Mapping[str, Any], inputs: Values) -> tuple[Operation, Tree]:
    """The loss of a case, and its target."""
    return ops.loss(settings["loss"]), {"target": backend.asarray(inputs["target"])}


def prepare_density(backend: Backend, settings: Mapping[str, Any], inputs: Values) -> tuple[Operation, Tree]:
    """The log-probabilities of a case, and the actions."""
    return LogProbability(distribution(settings)), {"actions": backend.asarray(inputs["actions"])}


def _loss(
    name: str,
    summary: str,
    target: str,
    random: Callable[[Draw], Case],
) -> Computation:
    return Computation(
        name,
        summary,
        outputs("of each task (T,)", of="x"),
        routes(prepare_loss),
        exact.differentiated(exact.loss),
        random,
        f"(params, data, settings): data.x {target}, a tangent data.dx, a cotangent data.gy (T,) and its "
        "tangent data.dgy",
    )


def _density(name: str, summary: str, actions: str) -> Computation:
    return Computation(
        name,
        summary,
        outputs("of each example (T, N)", of="x"),
        routes(prepare_density),
        exact.differentiated(exact.log_probabilities),
        signature=f"(params, data, settings): {actions}, a tangent data.dx, a cotangent data.gy (T, N) and "
        "its tangent data.dgy",
    )


COMPUTATIONS = (
    _loss(
        "mse",
        "The mean of the squared differences over examples and output features, of each task.",
        "(T, N, d), data.target likewise",
        partial(random_loss, "mse"),
    ),
    _loss(
        "cross-entropy",
        "The mean over examples of minus the log-probability of their labels, of each task.",
        "logits (T, N, ways), data.target labels (T, N)",
        partial(random_loss, "cross_entropy"),
    ),
    _density(
        "categorical",
        "Log-probabilities of actions by logits.",
        "data.x logits (T, N, K), data.actions indices as floating numbers (T, N, 1)",
    ),
    _density(
        "gaussian",
        "Log-densities of actions by means, with one standard deviation for all numbers.",
        "data.x means (T, N, d), data.actions (T, N, d), settings.std",
    ),
)
