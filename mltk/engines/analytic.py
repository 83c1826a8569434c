"""Engines: where derivatives come from. The analytic engine chains the hand-derived rules of `mltk.ops`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from mltk import tree
from mltk.contracts import HeadPullback, Linearization, Model, Objective
from mltk.errors import UnsupportedError
from mltk.heads.head import Head
from mltk.models import Sequential
from mltk.ops import FunctionLoss, Operation
from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Residuals, Tangent
from mltk.tree import Array, Tree

Tangents = tuple[Tree, Array | None] | None
"""The tangents of one layer's parameters and input."""


@dataclass(frozen=True)
class AnalyticEngine:
    """Derivatives by the hand-derived rules of `mltk.ops`, on any library of the Array API standard."""

    name: str = "analytic"

    def linearize(
        self,
        objective: Objective,
        params: Tree,
        x: Array,
        y: Array,
        *,
        wrt: Collection[str] | None = None,
        curvature: bool = True,
    ) -> Linearization:
        """See `Engine.linearize`."""
        if isinstance(objective.loss, FunctionLoss):
            raise objective.loss.without_autograd()
        return AnalyticLinearization(objective, params, x, y, wrt, curvature)

    def vjp(self, model: Model, params: Tree, x: Array) -> tuple[Array, Callable[[Array], Tree]]:
        """See `Engine.vjp`."""
        chain = _Chain(model, params, x)
        return chain.outputs, lambda cotangent: chain.pull_back(cotangent, None, keep=False)

    def head(
        self, head: Head, p: Tree, support: Array, target: Array, query: Array
    ) -> tuple[Array, HeadPullback]:
        """See `Engine.head`."""
        outputs, residuals = head.forward(p, support, target, query)
        return outputs, lambda cotangent: head.vjp(p, residuals, cotangent)


class AnalyticLinearization:
    """One forward and one backward pass; a Hessian product is a forward and a backward pass of tangents."""

    def __init__(
        self,
        objective: Objective,
        params: Tree,
        x: Array,
        y: Array,
        wrt: Collection[str] | None,
        curvature: bool,
    ) -> None:
        chain = _Chain(objective.model, params, x)
        target = {"target": y}
        self.value, residuals = objective.loss.forward(target, chain.outputs)
        _, cotangent = objective.loss.vjp(target, residuals, objective.factor)
        self.grad: Tree = chain.pull_back(cotangent, wrt, keep=curvature)
        self._state = (chain, objective, target, residuals) if curvature else None

    def hvp(self, v: Tree) -> Tree:
        """See `Linearization.hvp`."""
        if self._state is None:
            raise UnsupportedError("hvp needs linearize(..., curvature=True)")
        chain, objective, target, residuals = self._state
        tangents, tangent = chain.push_forward(v)
        factor = objective.factor
        _, cotangent = objective.loss.jvp_of_vjp(target, residuals, factor, Tangent({}, tangent, None))
        return chain.pull_back_tangent(cotangent, tangents)


class _Chain:
    """The forward pass of a sequential model, with what the other three passes need of it."""

    def __init__(self, model: Model, params: Tree, x: Array) -> None:
        if not isinstance(model, Sequential):
            raise UnsupportedError(
                f"the analytic engine differentiates mltk.models.Sequential, not {type(model).__name__}; "
                'use mltk.backend("torch", engine="autograd")'
            )
        self.steps: list[tuple[str, Operation, Tree, Residuals]] = []
        for name, layer in model.named_layers:
            p = params.get(name, {})
            x, residuals = layer.forward(p, x)
            self.steps.append((name, layer, p, residuals))
        self.outputs = x
        self.cotangents: dict[int, Array] = {}

    def pull_back(self, cotangent: Array, wrt: Collection[str] | None, *, keep: bool = True) -> Tree:
        """Pull the outputs' cotangent back to the parameters in ``wrt``.

        That of each layer's output is kept if told so, for `pull_back_tangent`.
        """
        grads: Tree = {}
        first = self._first(wrt)
        for position in range(len(self.steps) - 1, first - 1, -1):
            name, layer, p, residuals = self.steps[position]
            if keep:
                self.cotangents[position] = cotangent
            grad, cotangent = layer.vjp(p, residuals, cotangent, wrt_input=position > first)
            if wrt is not None:
                grad = {key: leaf for key, leaf in grad.items() if f"{name}.{key}" in wrt}
            if grad:
                grads[name] = grad
        return dict(reversed(grads.items()))

    def push_forward(self, v: Tree) -> tuple[list[Tangents], Array]:
        """The tangents ``(dp, dx)`` along ``v`` of each layer, and that of the outputs.

        A layer is ``None`` if neither its parameters nor its input move.
        """
        tangents: list[Tangents] = []
        dx: Array | None = None
        for name, layer, p, residuals in self.steps:
            dp = v.get(name, {})
            if dx is None and not dp:
                tangents.append(None)
                continue
            if len(dp) < len(p):
                dp = tree.map(kernels_of(next(iter(p.values()))).xp.zeros_like, p) | dp
            tangents.append((dp, dx))
            dx = layer.jvp(p, residuals, dp, dx)
        return tangents, dx

    def pull_back_tangent(self, cotangent: Array, tangents: list[Tangents]) -> Tree:
        """The tangent of `pull_back`, for all parameters, from that of the outputs' cotangent."""
        grads: Tree = {}
        first = self._first(None)
        for position in range(len(self.steps) - 1, first - 1, -1):
            name, layer, p, residuals = self.steps[position]
            inner = position > first
            moved = tangents[position]
            if moved is None:
                grad, cotangent = layer.vjp(p, residuals, cotangent, wrt_input=inner)
            else:
                gy = self.cotangents[position]
                grad, cotangent = layer.jvp_of_vjp(
                    p, residuals, gy, Tangent(*moved, cotangent), wrt_input=inner
                )
            if grad:
                grads[name] = grad
        return dict(reversed(grads.items()))

    def _first(self, wrt: Collection[str] | None) -> int:
        """Position of the first layer that has a parameter (in ``wrt``)."""
        for position, (name, _, p, _) in enumerate(self.steps):
            if p and (wrt is None or any(f"{name}.{key}" in wrt for key in p)):
                return position
        return len(self.steps)
