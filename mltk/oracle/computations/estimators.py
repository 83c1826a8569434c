"""Estimators of derivatives from samples: the magic box, and the losses of policies."""
# ruff: noqa: D102 - the four functions are documented once, on Operation

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mltk import ops
from mltk.contracts import Backend
from mltk.ops import Operation
from mltk.ops.dice import surrogate
from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Tangent
from mltk.ops.policy_loss import costs_to_go
from mltk.oracle.case import Values
from mltk.oracle.computation import Computation
from mltk.oracle.computations.losses import distribution
from mltk.oracle.computations.operations import outputs, routes
from mltk.oracle.definitions import estimators as exact
from mltk.oracle.definitions.operations import differentiated
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class Surrogate(Operation):
    """`mltk.surrogate` of ``p["costs"]`` and ``p["baseline"]``, whose rules are those of its boxes.

    With S the cumulative sum over steps, and its adjoint, which sums what is to come:
    y = ⟨c, □(S l)⟩ / N + ⟨b, 1 - □(l)⟩ / N.
    """

    def forward(self, p: Tree, x: Array) -> tuple[Array, tuple[Any, Any]]:
        value = surrogate(x, p["costs"], p.get("baseline"))
        box = ops.MagicBox()
        return value, (box.forward({}, _cumulated(x))[1], box.forward({}, x)[1])

    def jvp(self, p: Tree, res: tuple[Any, Any], dp: Tree, dx: Array | None) -> Array:
        box, (until, alone) = ops.MagicBox(), res
        terms = box.jvp({}, until, {}, _cumulated(dx)) * p["costs"]
        if "baseline" in p:
            terms = terms - box.jvp({}, alone, {}, dx) * p["baseline"]
        return terms.sum((-2, -1)) / terms.shape[-2]

    def vjp(
        self, p: Tree, res: tuple[Any, Any], gy: Array, *, wrt_input: bool = True
    ) -> tuple[Tree, Array | None]:
        box, (until, alone) = ops.MagicBox(), res
        g = gy[..., None, None] / p["costs"].shape[-2]
        gx = costs_to_go(box.vjp({}, until, g * p["costs"])[1])
        if "baseline" in p:
            gx = gx - box.vjp({}, alone, g * p["baseline"])[1]
        return {}, gx

    def jvp_of_vjp(
        self, p: Tree, res: tuple[Any, Any], gy: Array, d: Tangent, *, wrt_input: bool = True
    ) -> tuple[Tree, Array | None]:
        box, (until, alone) = ops.MagicBox(), res
        g, dg = (each[..., None, None] / p["costs"].shape[-2] for each in (gy, d.gy))
        costs = p["costs"]
        dgx = costs_to_go(box.jvp_of_vjp({}, until, g * costs, Tangent({}, _cumulated(d.x), dg * costs))[1])
        if "baseline" in p:
            baseline = p["baseline"]
            dgx = dgx - box.jvp_of_vjp({}, alone, g * baseline, Tangent({}, d.x, dg * baseline))[1]
        return {}, dgx


def _cumulated(x: Array) -> Array:
    return kernels_of(x).xp.cumulative_sum(x, axis=-1)


def prepare_box(backend: Backend, settings: Mapping[str, Any], inputs: Values) -> tuple[Operation, Tree]:
    """The box."""
    return ops.MagicBox(), {}


def prepare_surrogate(
    backend: Backend, settings: Mapping[str, Any], inputs: Values
) -> tuple[Operation, Tree]:
    """The surrogate, with the costs and baselines of a case."""
    return Surrogate(), {
        name: backend.asarray(inputs[name]) for name in ("costs", "baseline") if name in inputs
    }


def prepare_policy_loss(
    backend: Backend, settings: Mapping[str, Any], inputs: Values
) -> tuple[Operation, Tree]:
    """The loss of a policy, with the samples of a case."""
    loss = ops.PolicyLoss(distribution(settings), settings["horizon"], box=settings["box"])
    return loss, _sampled(backend, inputs, inputs["costs"], inputs["baseline"])


def prepare_log_likelihood(
    backend: Backend, settings: Mapping[str, Any], inputs: Values
) -> tuple[Operation, Tree]:
    """The log-likelihood of a case's actions; costs and baselines, which play no part, are zero."""
    zeros = 0 * inputs["actions"][..., 0]
    return ops.LogLikelihood(distribution(settings)), _sampled(backend, inputs, zeros, zeros)


def _sampled(backend: Backend, inputs: Values, costs: Any, baseline: Any) -> Tree:
    """Actions, costs and baselines side by side."""
    columns = [backend.asarray(each[..., None]) for each in (costs, baseline)]
    return {"target": backend.xp.concat([backend.asarray(inputs["actions"]), *columns], axis=-1)}


SIGNATURE = "(params, data, settings): {}, a tangent data.dx, a cotangent data.gy and its tangent data.dgy"
SAMPLES = (
    "data.x a policy's outputs (T, N H, k), data.actions (T, N H, 1) as floating numbers where "
    "settings.distribution is 'categorical', and (T, N H, k) where it is 'gaussian' with settings.std"
)

COMPUTATIONS = (
    Computation(
        "magic-box",
        "Ones whose derivatives are those of the exponential (DiCE: Foerster et al. 2018, section 4).",
        outputs("ones (T, N)", of="x"),
        routes(prepare_box),
        differentiated(exact.magic_box),
        signature=SIGNATURE.format("data.x sums of log-probabilities (T, N)"),
    ),
    Computation(
        "surrogate",
        "The mean cost of trajectories with derivatives of every order (Foerster et al. 2018, equation 11).",
        outputs("of each task (T,)", of="x"),
        routes(prepare_surrogate),
        differentiated(exact.surrogate),
        signature=SIGNATURE.format(
            "data.x log-probabilities (T, N, H), data.costs and, in some cases, data.baseline likewise"
        ),
    ),
    Computation(
        "policy-loss",
        "The surrogate of a policy's outputs; without boxes only its gradient is that of the expected cost.",
        outputs("of each task (T,)", of="x"),
        routes(prepare_policy_loss),
        differentiated(exact.policy_loss),
        signature=SIGNATURE.format(
            f"{SAMPLES}, data.costs and data.baseline (T, N H), trajectory by trajectory, settings.horizon, "
            "settings.box"
        ),
    ),
    Computation(
        "log-likelihood",
        "The log-probability of all sampled actions of a task together; its gradient is the score.",
        outputs("of each task (T,)", of="x"),
        routes(prepare_log_likelihood),
        differentiated(exact.log_likelihood),
        signature=SIGNATURE.format(SAMPLES),
    ),
)
