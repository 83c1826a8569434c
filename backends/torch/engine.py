"""Where Torch's derivatives come from: by hand, or by autograd, a second opinion for any model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mltk import tree
from mltk.contracts import HeadPullback, Linearization, Model, Objective
from mltk.engines import AnalyticEngine
from mltk.errors import UnsupportedError
from mltk.heads import Head
from mltk.models import Sequential
from mltk.ops import FunctionLoss
from mltk.tree import Tree

from .module_model import ModuleModel
from .second_derivatives import gradients
from .task_by_task import task_by_task


class HandDerivedEngine(AnalyticEngine):
    """The rules of `mltk.ops`, on large images one task after the other."""

    linearize = task_by_task(AnalyticEngine.linearize)


@dataclass(frozen=True)
class AutogradEngine:
    """Gradients by reverse mode, Hessian products by double backward."""

    name: str = "autograd"

    @task_by_task
    def linearize(
        self, objective: Objective, params: Tree, x: torch.Tensor, y: torch.Tensor, **options: Any
    ) -> Linearization:
        """See `mltk.contracts.Engine.linearize`."""
        return AutogradLinearization(objective, params, x, y, **options)

    def vjp(
        self, model: Model, params: Tree, x: torch.Tensor
    ) -> tuple[torch.Tensor, Callable[[torch.Tensor], Tree]]:
        """See `mltk.contracts.Engine.vjp`."""
        variables = _leaves(model.shapes, params, x)
        with torch.enable_grad():
            outputs = model.apply(tree.merge(params, tree.unflatten(variables)), x)

        def pullback(cotangent: torch.Tensor) -> Tree:
            what = f"the pullback of {_name(model)}"
            return _tree(variables, gradients(outputs, variables.values(), cotangent, what=what, retain=True))

        return outputs.detach(), pullback

    def head(
        self, head: Head, p: Tree, support: torch.Tensor, target: torch.Tensor, query: torch.Tensor
    ) -> tuple[torch.Tensor, HeadPullback]:
        """See `mltk.contracts.Engine.head`."""
        variables = _leaves(head.shapes, p, support)
        ends = [support.detach().requires_grad_(), query.detach().requires_grad_()]
        with torch.enable_grad():
            params = tree.unflatten(variables)
            outputs = head.predict(params, head.fit(params, ends[0], target), ends[1])

        def pullback(cotangent: torch.Tensor) -> tuple[Tree, torch.Tensor, torch.Tensor]:
            what = f"the pullback of {type(head).__name__}"
            inputs = [*variables.values(), *ends]
            *grads, g_support, g_query = gradients(outputs, inputs, cotangent, what=what, retain=True)
            return _tree(variables, grads), g_support, g_query

        return outputs.detach(), pullback


class AutogradLinearization:
    """One graph, differentiated once for the gradient and again for each Hessian product."""

    def __init__(
        self,
        objective: Objective,
        params: Tree,
        x: torch.Tensor,
        y: torch.Tensor,
        *,
        wrt: Collection[str] | None = None,
        curvature: bool = True,
    ) -> None:
        self._variables = _leaves(objective.model.shapes, params, x)
        inputs = {name: leaf for name, leaf in self._variables.items() if wrt is None or name in wrt}
        with torch.enable_grad():
            outputs = objective.model.apply(tree.merge(params, tree.unflatten(self._variables)), x)
            value, _ = objective.loss.forward({"target": y}, outputs)
        self._what = _name(objective.model)
        grads = gradients(
            value,
            inputs.values(),
            torch.full_like(value, objective.factor),
            what=f"the gradient of {self._what}",
            create_graph=curvature,
        )
        self._grads = dict(zip(inputs, grads, strict=True)) if curvature else None
        self.value = value.detach()
        self.grad: Tree = _tree(inputs, [grad.detach() for grad in grads])

    def hvp(self, v: Tree) -> Tree:
        """See `mltk.contracts.Linearization.hvp`."""
        if self._grads is None:
            raise UnsupportedError("hvp needs linearize(..., curvature=True)")
        flat = tree.flatten(v)
        moved = {name: grad for name, grad in self._grads.items() if name in flat}
        along, inputs = [flat[name] for name in moved], self._variables.values()
        what = f"the Hessian product of {self._what}"
        return _tree(self._variables, gradients([*moved.values()], inputs, along, what=what, retain=True))


@dataclass(frozen=True)
class DefaultEngine:
    """The analytic engine for models and losses of `mltk.ops`, autograd for all others."""

    name: str = "default"

    def linearize(
        self, objective: Objective, params: Tree, x: torch.Tensor, y: torch.Tensor, **options: Any
    ) -> Linearization:
        """See `mltk.contracts.Engine.linearize`."""
        hand_derived = not isinstance(objective.loss, FunctionLoss)
        engine = _engine_for(objective.model) if hand_derived else AutogradEngine()
        return engine.linearize(objective, params, x, y, **options)

    def vjp(
        self, model: Model, params: Tree, x: torch.Tensor
    ) -> tuple[torch.Tensor, Callable[[torch.Tensor], Tree]]:
        """See `mltk.contracts.Engine.vjp`."""
        return _engine_for(model).vjp(model, params, x)

    def head(
        self, head: Head, p: Tree, support: torch.Tensor, target: torch.Tensor, query: torch.Tensor
    ) -> tuple[torch.Tensor, HeadPullback]:
        """See `mltk.contracts.Engine.head`."""
        return HandDerivedEngine().head(head, p, support, target, query)


def _name(model: Model) -> str:
    """What a model is called in errors."""
    return repr(model) if isinstance(model, ModuleModel) else type(model).__name__


def _engine_for(model: Model) -> HandDerivedEngine | AutogradEngine:
    return HandDerivedEngine() if isinstance(model, Sequential) else AutogradEngine()


def _leaves(shapes: Mapping[str, tuple[int, ...]], params: Tree, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """The leaves of a new graph under their names, each with a task axis (expanded, not copied).

    Raises:
        UnsupportedError: If Torch can record no graph here.
    """
    if torch.is_inference_mode_enabled() or any(leaf.is_inference() for leaf in [x, *tree.leaves(params)]):
        raise UnsupportedError(
            "the autograd engine was called in torch.inference_mode(), or on tensors made there, where Torch "
            'records nothing; use torch.no_grad(), or mltk.backend("torch", engine="analytic")'
        )
    variables = {}
    for name, leaf in tree.flatten(params).items():
        if name in shapes:
            shared = leaf.ndim == len(shapes[name])
            leaf = leaf.expand(x.shape[0], *leaf.shape) if shared else leaf
            variables[name] = leaf.detach().requires_grad_()
    return variables


def _tree(names: Iterable[str], leaves: list[torch.Tensor]) -> Tree:
    return tree.unflatten(dict(zip(names, leaves, strict=True)))
