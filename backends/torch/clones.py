"""Clone, update and detach any `torch.nn.Module` without losing gradients, with autograd keeping the links.

Serves `mltk.clone_module`, `update_module`, `detach_module` and `meta_grad`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from mltk.errors import SettingError, ShapeError, UnsupportedError
from mltk.ops import Loss

from .bridges import value_of
from .learnable_optimizer import LearnableOptimizer as LearnableOptimizer  # for mltk.modules.functions
from .second_derivatives import gradients, make_twice_differentiable
from .structure import Links, check_initialised, distinct, linked_copy, modules_of, relink, tables_of

M = TypeVar("M", bound=Module)
PLAIN = frozenset({Tensor, Parameter})
"""Types for which one call on a list of tensors does what a call on each does."""


def clone_module(module: M, memo: dict[Any, Any] | None = None) -> M:
    """A copy whose parameters and buffers are differentiable clones of the original's.

    Parameters, buffers and submodules that are shared in the original are shared in the clone. The clone
    owns its tensors, its tables of submodules and its tables of hooks, so nothing that is done to it changes
    the original; its hooks are the original's. All other attributes are the original's objects, except that
    what refers to a cloned submodule, parameter or buffer refers to the clone's: directly, as an item of a
    list, tuple or dict, or as a bound method. Modules that are kept only in such a list are not submodules
    and are not cloned.

    Where gradients are recorded, a clone's attention runs on Torch's mathematical kernel and its recurrent
    layers without cuDNN: the fused kernels have no second derivative. Elsewhere nothing is switched.

    Within `torch.no_grad` the clone is cut from the original. A module compiled in place, by its method
    `compile`, gives a clone that is not compiled; one that `torch.compile` returned gives a compiled one.

    Args:
        module: Any module.
        memo: Pass the same dict to several calls to keep tensors shared that their modules share.

    Raises:
        UnsupportedError: If the module is a TorchScript module.
        SettingError: If a parameter or buffer is not initialised yet.
    """
    originals = modules_of(module)
    known: Links = {} if memo is None else memo.setdefault("clones", {})
    tensors = distinct(tables_of(originals, "_parameters") + tables_of(originals, "_buffers"))
    new = [tensor for tensor in tensors if id(tensor) not in known]
    if not set(map(type, new)) <= PLAIN:
        check_initialised(module)
    _remember(memo, known, new, _cloned(new))
    clone: M = linked_copy(originals, known)  # type: ignore[assignment]
    make_twice_differentiable(modules_of(clone))
    return clone


def update_module(
    module: M, updates: Iterable[Tensor | None] | None = None, memo: dict[Any, Any] | None = None
) -> M:
    """Add an update to each parameter, in place on the module and differentiable in both.

    A parameter that several submodules share is updated once. Attributes that refer to a parameter, as in
    `clone_module`, refer to the updated one afterwards.

    Args:
        module: Any module, such as a clone.
        updates: One tensor a parameter in the order of ``module.parameters()``; ``None`` leaves a parameter
            as it is. By default each parameter's attribute ``update`` is used where it is set and not
            ``None``, and reset; that of a buffer always is.
        memo: Pass the same dict to several calls to update a parameter once that their modules share.

    Returns:
        The module.

    Raises:
        SettingError: If there are not as many updates as parameters.
        ShapeError: If an update has another shape than its parameter.
    """
    modules = modules_of(module)
    parameters, buffers = tables_of(modules, "_parameters"), tables_of(modules, "_buffers")
    tensors = distinct(buffers if updates is not None else parameters + buffers)
    marked = [tensor for tensor in tensors if getattr(tensor, "update", None) is not None]
    pairs = [(tensor, tensor.update) for tensor in marked]
    if updates is not None:
        pairs += _paired(module, parameters, updates)
    for old, update in pairs:
        if old.shape != getattr(update, "shape", None):
            raise _misfit(module, old, update)
    done: Links = {} if memo is None else memo.setdefault("updates", {})
    if done:
        pairs = [(old, update) for old, update in pairs if id(old) not in done]
    if pairs:
        olds, addends = zip(*pairs, strict=True)
        _remember(memo, done, olds, _sums(olds, addends))
    for tensor in marked:
        tensor.update = None  # or the tensor would keep the graph of its update
    relink(modules, done)
    return module


def detach_module(module: Module, keep_requires_grad: bool = False) -> None:
    """Cut the parameters and differentiable buffers of a module, in place, from what they came from.

    What was computed from the module before keeps its gradients. The parameters of a module that is no
    clone are leaves, which only stop to require a gradient.

    Args:
        module: Any module, such as a clone.
        keep_requires_grad: Leave each parameter and buffer requiring a gradient if it did before; by default
            none does afterwards.
    """
    modules = modules_of(module)
    replaced: Links = {}
    for tensor in distinct(tables_of(modules, "_parameters") + tables_of(modules, "_buffers")):
        if not tensor.requires_grad:
            continue
        if tensor._is_view():  # a slice of a larger tensor, which cannot be detached in place
            detached = tensor.detach()
            replaced[id(tensor)] = detached
        else:
            detached = tensor.detach_()
        if keep_requires_grad:
            detached.requires_grad_()
    relink(modules, replaced)


def meta_grad(
    module: Module, loss: str | Loss | Callable[[Any, Any], Tensor], x: Any, y: Any, wrt: Module
) -> list[Tensor]:
    """The gradient of the loss of one module with respect to the parameters of another, its origin.

    The graph is kept, so that further gradients can be taken.

    Args:
        module: Called once, on ``x``.
        loss: ``"mse"``, ``"cross_entropy"``, a `mltk.ops.Loss`, or a function of the outputs and the target.
        x: Inputs ``(N, *features)``.
        y: Targets ``(N, ...)``.
        wrt: The origin; ``module`` itself for its own gradient.

    Returns:
        Tensors without a graph, in the order of ``wrt.parameters()``; zeros where nothing flows.

    Raises:
        SettingError: If there is no such loss.
        ShapeError: If the loss is not one number.
        UnsupportedError: In `torch.inference_mode`, where no gradient is recorded, or if Torch lacks a
            derivative that is needed.
    """
    if torch.is_inference_mode_enabled():
        raise UnsupportedError("meta_grad was called in torch.inference_mode(), where Torch records nothing")
    parameters = list(wrt.parameters())
    with torch.enable_grad():
        value = value_of(loss, module(x), y)
    if value.numel() != 1:
        raise ShapeError(f"the loss has shape {tuple(value.shape)}; expected one number")
    grads = {id(p): torch.zeros_like(p) for p in parameters}
    inputs = [p for p in parameters if p.requires_grad]
    if value.requires_grad and inputs:
        what = f"the gradient of {type(module).__name__}"
        found = gradients(value, inputs, torch.ones_like(value), what=what, retain=True)
        grads |= zip(map(id, inputs), found, strict=True)
    return [grads[id(p)].detach() for p in parameters]


def _remember(
    memo: dict[Any, Any] | None, links: Links, olds: Sequence[Tensor], news: Sequence[Tensor]
) -> None:
    """Enter what takes the place of some tensors; the memo keeps them alive, and so their identities."""
    links.update(zip(map(id, olds), news, strict=True))
    if memo is not None:
        memo.setdefault("kept", []).extend(olds)


def _cloned(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
    """A differentiable clone of each tensor."""
    together = getattr(torch, "_foreach_clone", None)  # the oldest supported versions of Torch lack it
    return _each(torch.clone, together, [tensor.requires_grad for tensor in tensors], tensors)


def _sums(olds: Sequence[Tensor], addends: Sequence[Tensor]) -> Sequence[Tensor]:
    """The sum of each pair."""
    differentiable = [a.requires_grad or b.requires_grad for a, b in zip(olds, addends, strict=True)]
    return _each(torch.add, torch._foreach_add, differentiable, olds, addends)


def _each(
    one: Callable[..., Tensor],
    together: Callable[..., Sequence[Tensor]] | None,
    differentiable: Sequence[bool],
    *operands: Sequence[Tensor],
) -> Sequence[Tensor]:
    """Apply a function to all tensors by one call, with one node of the graph, or else one by one.

    All that such a node returns requires a gradient, so what is not differentiable has a call of its own.
    """
    kinds = set(map(type, chain(*operands)))
    if together is None or not kinds <= PLAIN or torch._C._are_functorch_transforms_active():
        return [one(*tensors) for tensors in zip(*operands, strict=True)]
    if len(set(differentiable)) == 1:
        return together(*operands)
    results: dict[int, Tensor] = {}
    for wanted in set(differentiable):
        places = [place for place, found in enumerate(differentiable) if found is wanted]
        parts = ([operand[place] for place in places] for operand in operands)
        results.update(zip(places, together(*parts), strict=True))
    return [results[place] for place in range(len(differentiable))]


def _paired(
    module: Module, tables: Sequence[dict[str, Any]], updates: Iterable[Any]
) -> list[tuple[Tensor, Any]]:
    """Each parameter that is updated, and its update.

    Raises:
        SettingError: If there are not as many updates as parameters.
    """
    plain = type(module).parameters is Module.parameters
    parameters = distinct(tables) if plain else list(module.parameters())
    updates = list(updates)
    if len(updates) != len(parameters):
        raise SettingError(
            f"updates has {len(updates)} entries; expected one (or None) for each of the "
            f"{len(parameters)} parameters of {type(module).__name__}"
        )
    return [(p, update) for p, update in zip(parameters, updates, strict=True) if update is not None]


def _misfit(module: Module, old: Tensor, update: Any) -> ShapeError:
    """The error of an update that has not the shape of its parameter."""
    found = f"has shape {tuple(update.shape)}" if hasattr(update, "shape") else f"is {update!r}"
    tables = (*module.named_parameters(), *module.named_buffers())
    name = next((name for name, tensor in tables if tensor is old), "a parameter")
    return ShapeError(f"the update of {name!r} {found}; expected a tensor of shape {tuple(old.shape)}")
