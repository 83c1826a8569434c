"""Bridges: a model of mltk as a `torch.nn.Module` with the same state dict, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from mltk import ops, tree
from mltk.errors import ArrayError, DtypeError, ShapeError, TreeError, UnsupportedError
from mltk.models import Sequential
from mltk.ops import Loss, Operation
from mltk.peers.torch_layers import layer_of, operation_of
from mltk.tree import Tree

from .second_derivatives import gradients


class OperationModule(nn.Module):
    """An operation of `mltk.ops` that Torch has no layer for, with its parameters under their own names.

    Constants that stand beside the parameters, such as the statistics of a calibrated batch norm, are
    buffers. Training and evaluation mode make no difference.
    """

    def __init__(self, operation: Operation, beside: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__()
        self.operation = operation
        for name, shape in operation.shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))
        for name, shape in beside.items():
            self.register_buffer(name, torch.empty(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The value of the operation for one task."""
        held = {**self._parameters, **self._buffers}
        y: torch.Tensor = self.operation.forward(held, x)[0]
        return y

    def extra_repr(self) -> str:
        """The operation."""
        return repr(self.operation)


class SequentialModule(nn.Sequential):
    """What `to_module` makes: a `torch.nn.Sequential` that can say its own gradients."""

    def grad(
        self, loss: str | Loss | Callable[..., torch.Tensor], x: torch.Tensor, y: torch.Tensor
    ) -> list[torch.Tensor | None]:
        """The gradients of a loss at the parameters as they are now, which autograd can differentiate again.

        Args:
            loss: ``"mse"``, ``"cross_entropy"``, an `mltk.ops.Loss`, or a function of outputs and targets.
            x: Inputs ``(N, *features)``.
            y: Targets, ``(N,)`` or ``(N, d)``.

        Returns:
            One gradient for each of `parameters`, in their order; ``None`` for those with
            ``requires_grad=False``.
        """
        parameters = list(self.parameters())
        with torch.enable_grad():
            # Aliases: what an update made of one parameter may depend on another one that it left as it was.
            point = {id(p): p.view_as(p) for p in parameters if p.requires_grad}
            if not point:
                return [None] * len(parameters)
            with _moved_to(self, point):
                value = value_of(loss, self(x), y)
            found = gradients(value, point.values(), what="the gradient", create_graph=True)
        grads = dict(zip(point, found, strict=True))
        return [grads.get(id(p)) for p in parameters]


@contextmanager
def _moved_to(module: nn.Module, point: Mapping[int, torch.Tensor]) -> Iterator[None]:
    """Other tensors in place of a module's parameters, by their identity, for a while."""
    held = [(layer._parameters, key) for layer in module.modules() for key in layer._parameters]
    before = [parameters[key] for parameters, key in held]
    try:
        for (parameters, key), p in zip(held, before, strict=True):
            parameters[key] = point.get(id(p), p)  # type: ignore[assignment]  # a tensor does as well
        yield
    finally:
        for (parameters, key), p in zip(held, before, strict=True):
            parameters[key] = p


def value_of(
    loss: str | Loss | Callable[..., torch.Tensor], outputs: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """The loss of one task: of a name, an operation of mltk, or a function of outputs and targets.

    Raises:
        SettingError: If ``loss`` is none of these.
    """
    if callable(loss):
        return loss(outputs, y)
    value: torch.Tensor = ops.loss(loss).forward({"target": y[None]}, outputs[None])[0]
    return value[0]


def to_module(model: Sequential, params: Tree) -> SequentialModule:
    """A model as a `torch.nn.Module`: the same function, the same state dict.

    Operations with an exact counterpart become that layer of Torch; all others (batch norm whose statistics
    are not those of the current set, LSTM, attention, global average pooling, `mltk.ops.DropRows`) become a
    small module that applies the operation. The module works on one task, ``(N, *features)``, and in training
    and evaluation mode alike. Torch's batch norm refuses a set with a single number a channel; mltk's does
    not.

    Args:
        model: The model.
        params: Its parameters, without a task axis, as arrays of any library. They are copied, and keep
            their dtypes and, if they are Torch's, their devices. What `mltk.normalization.calibrate` put
            beside them becomes buffers.

    Returns:
        A `torch.nn.Sequential` with a method ``grad(loss, x, y)``, see `SequentialModule.grad`.

    Raises:
        UnsupportedError: If ``model`` is no `mltk.models.Sequential`.
        TreeError: If a parameter is missing, or there is one that the model does not have.
        ShapeError, DtypeError, ArrayError: If a parameter has another shape, is not of a floating dtype, or
            is no array.
    """
    if not isinstance(model, Sequential):
        raise UnsupportedError(f"model is a {type(model).__name__}; expected an mltk.models.Sequential")
    flat = {name: _tensor(name, leaf) for name, leaf in tree.flatten(params).items()}
    _check(model, flat)
    with torch.device("meta"):  # neither memory nor random numbers for what is replaced at once
        layers = []
        for position, operation in model.named_layers:
            beside = {
                name.removeprefix(f"{position}."): tuple(leaf.shape)
                for name, leaf in flat.items()
                if name.startswith(f"{position}.") and name not in model.shapes
            }
            native = None if beside else layer_of(operation)
            layers.append(OperationModule(operation, beside) if native is None else native)
        module = SequentialModule(*layers)
    module.load_state_dict(flat, assign=True)
    return module


def from_module(module: nn.Module) -> tuple[Sequential, Tree]:
    """A `torch.nn.Sequential` as a model of mltk and its parameters: the same function, the same names.

    Known are what `to_module` makes, and Linear, Conv2d, BatchNorm1d (of rows ``(N, features)``) and
    BatchNorm2d without running statistics, LayerNorm, activations (in place or not), MaxPool2d,
    AvgPool2d and Flatten (of images). Identity is left out, and a Sequential inside takes the place of its
    layers, if all parameters keep their names. Whether a parameter is frozen is not kept: say
    ``adapt_only`` to the learner.

    Args:
        module: The module, in training or evaluation mode; it is not changed.

    Returns:
        The model, and its parameters: detached copies, with their dtypes and devices.

    Raises:
        UnsupportedError: If a layer, or one of its settings, has no exact counterpart, or a parameter would
            get another name; `ModuleModel` wraps any module.
    """
    if not _is_sequential(module):
        raise _unsupported("module", module, "is no plain torch.nn.Sequential")
    operations: list[Operation] = []
    params: Tree = {}
    seen: set[int] = set()
    for name, layer in _layers(module):
        operation = _operation(name, layer)
        held = {**dict(layer.named_parameters(recurse=False)), **dict(layer.named_buffers(recurse=False))}
        position = str(len(operations))
        if held and name != position:
            raise _unsupported(name, layer, f"would have to be named {position}")
        shapes = {key: tuple(leaf.shape) for key, leaf in held.items()}
        if not isinstance(layer, OperationModule) and shapes != operation.shapes:
            raise _unsupported(name, layer, f"holds {shapes}; expected {operation.shapes}")
        if not seen.isdisjoint(map(id, held.values())):
            raise _unsupported(name, layer, "shares parameters with another layer")
        seen |= set(map(id, held.values()))
        operations.append(operation)
        if held:
            params[position] = {key: leaf.detach().clone() for key, leaf in held.items()}
    return Sequential(operations), params


def _layers(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers that do something, each under its dotted name."""
    _check_no_hooks(prefix.rstrip(".") or "module", module)
    for key, layer in module._modules.items():
        if layer is None or type(layer) is nn.Identity:
            continue
        if _is_sequential(layer):
            yield from _layers(layer, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", layer


def _is_sequential(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _check_no_hooks(name: str, module: nn.Module) -> None:
    if module._forward_hooks or module._forward_pre_hooks:
        raise _unsupported(name, module, "has forward hooks")


def _operation(name: str, layer: nn.Module) -> Operation:
    """The operation that is the same function as a layer."""
    _check_no_hooks(name, layer)
    if isinstance(layer, OperationModule):
        return layer.operation
    try:
        return operation_of(layer)
    except UnsupportedError as reason:
        raise _unsupported(name, layer, str(reason)) from None


def _unsupported(name: str, layer: nn.Module, reason: str) -> UnsupportedError:
    where = f"layer {name!r}, {layer!r}," if name != "module" else f"module, a {type(layer).__name__},"
    return UnsupportedError(f"{where} {reason}; mltk_backends.torch.ModuleModel wraps any module as it is")


def _tensor(name: str, leaf: Any) -> torch.Tensor:
    """A copy of a parameter."""
    if isinstance(leaf, torch.Tensor):
        tensor = leaf.detach().clone()
    else:
        try:
            tensor = torch.from_numpy(np.array(leaf, order="C"))
        except (TypeError, ValueError) as error:
            raise ArrayError(f"params: {name} is a {type(leaf).__name__}; expected an array") from error
    if not tensor.is_floating_point():
        raise DtypeError(f"params: {name} has dtype {tensor.dtype}; expected a floating dtype")
    return tensor


def _check(model: Sequential, flat: Mapping[str, torch.Tensor]) -> None:
    """Raise unless the leaves are the parameters of a model and constants that may stand beside them."""
    needed: dict[str, tuple[int, ...] | None] = dict(model.shapes)
    for name, operation in model.named_layers:
        constants = {f"{name}.{key}": shape for key, shape in operation.constant_shapes.items()}
        if not constants.keys().isdisjoint(flat):
            needed |= constants
        if isinstance(operation, ops.Attention):  # these are data, of any shape
            needed |= {f"{name}.keys": None, f"{name}.values": None}
    for name in [*needed, *flat]:
        if name not in flat or name not in needed:
            found = "has no" if name in needed else "has, unlike the model,"
            raise TreeError(f"params {found} {name!r}; expected {', '.join(needed)}")
    for name, shape in needed.items():
        if shape not in (None, tuple(flat[name].shape)):
            raise ShapeError(f"params: {name} has shape {tuple(flat[name].shape)}; expected {shape}")
