"""The operations of `mltk.ops`: value and three derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from mltk import tree
from mltk.arguments import check_params
from mltk.backend import backend as choose_backend
from mltk.contracts import Backend
from mltk.ops import Operation
from mltk.ops.operation import Tangent
from mltk.oracle import layers
from mltk.oracle.case import Case, Values
from mltk.oracle.computation import NUMPY, TORCH, Computation, Draw, Route
from mltk.oracle.computations import random_operations
from mltk.oracle.definitions import operations as exact
from mltk.tree import Tree

Prepare = Callable[[Backend, Mapping[str, Any], Values], tuple[Operation, Tree]]
"""From a backend, the settings and the inputs of a case to its operation and the parameters."""

PREFIX = "0."
"""Of the parameters' names: the operation is the first layer of a network."""


def by_hand(prepare: Prepare, settings: Mapping[str, Any], inputs: Values) -> Values:
    """By the four functions of an operation, on NumPy."""
    backend = choose_backend("numpy", dtype="float64", engine="analytic")
    operation, p = prepare(backend, settings, inputs)
    x, gy, dx, dgy = (backend.asarray(inputs[name]) for name in ("x", "gy", "dx", "dgy"))
    dp = {
        name.removeprefix(PREFIX): backend.asarray(array) for name, array in inputs.get("dparams", {}).items()
    }
    value, residuals = operation.forward(p, x)

    def named(gp: Tree, gx: Any) -> Values:
        """The cotangents; those of parameters that the tasks share are added up."""
        own = {name: gp[name] if g.ndim == gp[name].ndim else gp[name].sum(0) for name, g in dp.items()}
        return {"x": gx, **{PREFIX + name: g for name, g in own.items()}}

    return {
        "value": value,
        "jvp": operation.jvp(p, residuals, dp, dx),
        "vjp": named(*operation.vjp(p, residuals, gy)),
        "tangent_of_vjp": named(*operation.jvp_of_vjp(p, residuals, gy, Tangent(dp, dx, dgy))),
    }


def by_autograd(prepare: Prepare, settings: Mapping[str, Any], inputs: Values) -> Values:
    """By Torch's autograd of an operation's value, which is all that is used of the operation.

    The tangent is the derivative of what ``gy`` pulls back to for ``gy``. The tangent of the pullback has the
    Hessian of ⟨gy, y⟩, which is symmetric, and what ``dgy`` pulls back to.
    """
    import torch

    backend = choose_backend("torch", dtype="float64", engine="autograd")
    operation, p = prepare(backend, settings, inputs)
    x, gy, dx, dgy = (backend.asarray(inputs[name]) for name in ("x", "gy", "dx", "dgy"))
    tangents = {"x": dx}
    tangents |= {name: backend.asarray(array) for name, array in inputs.get("dparams", {}).items()}
    leaves = {
        name: (x if name == "x" else p[name.removeprefix(PREFIX)]).clone().requires_grad_()
        for name in tangents
    }
    own = {name.removeprefix(PREFIX): leaf for name, leaf in leaves.items() if name != "x"}
    value, _ = operation.forward({**p, **own}, leaves["x"])
    gy = gy.clone().requires_grad_()
    derivative = partial(torch.autograd.grad, create_graph=True, allow_unused=True, materialize_grads=True)
    xs = [*leaves.values()]
    pulled = derivative(value, xs, gy)
    product = sum((g * tangents[name]).sum() for name, g in zip(leaves, pulled, strict=True))
    (moved,) = derivative(product, [gy])
    through_point = derivative(product, xs)
    through_cotangent = derivative(value, xs, dgy)
    both = [a + b for a, b in zip(through_point, through_cotangent, strict=True)]

    def named(arrays: Iterable[Any]) -> Values:
        return {name: backend.to_numpy(g.detach()) for name, g in zip(leaves, arrays, strict=True)}

    return {
        "value": backend.to_numpy(value.detach()),
        "jvp": backend.to_numpy(moved.detach()),
        "vjp": named(pulled),
        "tangent_of_vjp": named(both),
    }


def routes(prepare: Prepare) -> dict[str, Route]:
    """Hand-derived rules on NumPy, and Torch's autograd."""
    return {NUMPY: partial(by_hand, prepare), TORCH: partial(by_autograd, prepare)}


def outputs(value: str, *, of: str = "x and the parameters") -> dict[str, str]:
    """What candidates may return, for a value of this shape and what is differentiated for."""
    return {
        "value": value,
        "jvp": "its tangent, of the same shape",
        "vjp": f"what the cotangent gy of the value pulls back to, under the names of {of}, in their shapes",
        "tangent_of_vjp": "the tangent of vjp along all tangents, that of gy included; like vjp",
    }


def prepare_layer(backend: Backend, settings: Mapping[str, Any], inputs: Values) -> tuple[Operation, Tree]:
    """The only layer of a network; its parameters are checked."""
    operation = layers.operation(settings["layers"][0])
    p = {
        name.removeprefix(PREFIX): backend.asarray(array) for name, array in inputs.get("params", {}).items()
    }
    shapes = dict(operation.shapes)
    shapes |= {name: shape for name, shape in operation.constant_shapes.items() if name in p}
    tasks = inputs["x"].shape[:1] if settings["params_per_task"] else None
    check_params("params", tree.unflatten(p), shapes, backend, tasks=tasks)
    return operation, p


SIGNATURE = (
    "(params, data, settings): settings.layers the operation as the only layer of a network, params its "
    "parameters under their names in that network (with a task axis in front if settings.params_per_task), "
    "data.x (T, N, ...), tangents data.dx and data.dparams, a cotangent data.gy and its tangent data.dgy"
)


def _operation(
    name: str,
    summary: str,
    value: str,
    random: Callable[[Draw], Case] | None = None,
) -> Computation:
    return Computation(
        f"op-{name}",
        summary,
        outputs(value),
        routes(prepare_layer),
        exact.differentiated(exact.layer),
        random,
        SIGNATURE,
    )


COMPUTATIONS = (
    _operation("linear", "Fully connected: y = x Wᵀ + b.", "(T, N, out)", random_operations.random_linear),
    _operation(
        "convolution",
        "Two-dimensional cross-correlation.",
        "(T, N, out, h, w)",
        random_operations.random_convolution,
    ),
    _operation(
        "batch-norm",
        "Batch normalisation (Ioffe & Szegedy 2015): by this set, its first rows, or constants.",
        "(T, N, C, ...)",
        random_operations.random_batch_norm,
    ),
    _operation("layer-norm", "Layer normalisation (Ba, Kiros & Hinton 2016).", "(T, N, ...)"),
    _operation("relu", "The positive part; its slope at zero is zero.", "(T, N, ...)"),
    _operation("tanh", "The hyperbolic tangent.", "(T, N, ...)"),
    _operation("sigmoid", "The logistic function.", "(T, N, ...)"),
    _operation("silu", "x times its logistic function (Hendrycks & Gimpel 2016).", "(T, N, ...)"),
    _operation(
        "max-pool",
        "The largest pixel of each window, the first in reading order among equals.",
        "(T, N, C, h, w)",
        random_operations.random_max_pool,
    ),
    _operation(
        "average-pool",
        "The mean of each window, whose border counts as zeros.",
        "(T, N, C, h, w)",
    ),
    _operation("global-average-pool", "The mean of each channel.", "(T, N, C)"),
    _operation("flatten", "Each example as one row, channels slowest.", "(T, N, C h w)"),
    _operation(
        "lstm",
        "Long short-term memory (Hochreiter & Schmidhuber 1997) over the examples; gates i, f, g, o.",
        "(T, N, hidden)",
    ),
    _operation(
        "attention",
        "Dot-product attention (Vaswani et al. 2017, equation 1); its keys and values come as parameters.",
        "(T, M, e)",
    ),
    _operation("drop-rows", "All examples but the first rows.", "(T, N - rows, d)"),
)
