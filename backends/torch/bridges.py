"""Bridges: a model of mltk as a `torch.nn.Module` with the same state dict, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from mltk import ops, tree
from mltk.errors import ArrayError, DtypeError, ShapeError, TreeError, UnsupportedError
from mltk.models import Sequential
from mltk.ops import Loss, Operation
from mltk.tree import Tree

ACTIVATIONS: dict[type[Operation], type[nn.Module]] = {
    ops.ReLU: nn.ReLU,
    ops.Tanh: nn.Tanh,
    ops.Sigmoid: nn.Sigmoid,
    ops.SiLU: nn.SiLU,
}

OPERATIONS = {layer: operation for operation, layer in ACTIVATIONS.items()}

BATCH_NORM = {"affine": True, "track_running_stats": False, "running_mean": None, "running_var": None}

REQUIRED: dict[type[nn.Module], dict[str, Any]] = {
    nn.Conv2d: {"padding_mode": "zeros", "groups": 1, "dilation": (1, 1)},
    nn.BatchNorm1d: BATCH_NORM,
    nn.BatchNorm2d: BATCH_NORM,
    nn.LayerNorm: {"elementwise_affine": True},
    nn.MaxPool2d: {"dilation": 1, "ceil_mode": False, "return_indices": False},
    nn.AvgPool2d: {"ceil_mode": False, "count_include_pad": True, "divisor_override": None},
    nn.Flatten: {"start_dim": 1, "end_dim": -1},
}
"""The settings with which a layer of Torch is the operation of mltk."""


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


class Rows(nn.Flatten):
    """`torch.nn.Flatten` that remembers what it was told about its width."""

    def __init__(self, out_features: int | None) -> None:
        super().__init__()
        self.out_features = out_features


class Network(nn.Sequential):
    """What `to_module` makes: a `torch.nn.Sequential` that can say its own gradients."""

    def grad(
        self, loss: str | Loss | Callable[..., torch.Tensor], x: torch.Tensor, y: torch.Tensor
    ) -> list[torch.Tensor | None]:
        """The gradients of a loss, which autograd can differentiate again.

        Args:
            loss: ``"mse"``, ``"cross_entropy"``, an `mltk.ops.Loss`, or a function of outputs and targets.
            x: Inputs ``(N, *features)``.
            y: Targets, ``(N,)`` or ``(N, d)``.

        Returns:
            One gradient for each of `parameters`, in their order; ``None`` for those with
            ``requires_grad=False``.
        """
        parameters = list(self.parameters())
        moving = [p for p in parameters if p.requires_grad]
        if not moving:
            return [None] * len(parameters)
        with torch.enable_grad():
            value = value_of(loss, self(x), y)
            grads = iter(torch.autograd.grad(value, moving, create_graph=True, materialize_grads=True))
        return [next(grads) if p.requires_grad else None for p in parameters]


def value_of(
    loss: str | Loss | Callable[..., torch.Tensor], outputs: torch.Tensor, y: torch.Tensor
) -> torch.Tensor:
    """The loss of one task: of a name, an operation of mltk, or a function of outputs and targets.

    Raises:
        SettingError: If ``loss`` is none of these.
    """
    if callable(loss):
        return loss(outputs, y)
    value: torch.Tensor = ops.loss(loss).forward({"target": y}, outputs)[0]
    return value


def to_module(model: Sequential, params: Tree) -> Network:
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
        A `torch.nn.Sequential` with a method ``grad(loss, x, y)``, see `Network.grad`.

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
            native = None if beside else native_layer(operation)
            layers.append(OperationModule(operation, beside) if native is None else native)
        module = Network(*layers)
    module.load_state_dict(flat, assign=True)
    return module


def native_layer(operation: Operation) -> nn.Module | None:
    """The layer of Torch that is the same function of the same parameters; ``None`` if there is none."""
    if type(operation) in ACTIVATIONS:
        return ACTIVATIONS[type(operation)]()
    match operation:
        case ops.Linear():
            return nn.Linear(operation.in_features, operation.out_features, operation.bias)
        case ops.Convolution():
            window = operation.window
            channels = operation.in_channels, operation.out_channels
            return nn.Conv2d(*channels, window.size, window.stride, window.padding, bias=operation.bias)
        case ops.BatchNorm(statistics="batch", rows=None, spatial_axes=0):
            return nn.BatchNorm1d(operation.features, operation.eps, track_running_stats=False)
        case ops.BatchNorm(statistics="batch", rows=None, spatial_axes=2):
            return nn.BatchNorm2d(operation.features, operation.eps, track_running_stats=False)
        case ops.LayerNorm():
            return nn.LayerNorm(operation.shape, operation.eps)
        case ops.MaxPool():
            window = operation.window
            return nn.MaxPool2d(window.size, window.stride, window.padding)
        case ops.AveragePool():
            window = operation.window
            return nn.AvgPool2d(window.size, window.stride, window.padding)
        case ops.Flatten():
            return Rows(operation.out_features)
    return None


def from_module(module: nn.Module) -> tuple[Sequential, Tree]:
    """A `torch.nn.Sequential` as a model of mltk and its parameters: the same function, the same names.

    Known are what `to_module` makes, and Linear, Conv2d, BatchNorm1d (of rows ``(N, features)``) and
    BatchNorm2d without running statistics, LayerNorm, ReLU, Tanh, Sigmoid, SiLU (in place or not), MaxPool2d,
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
    kind = nn.Flatten if type(layer) is Rows else type(layer)
    for setting, expected in REQUIRED.get(kind, {}).items():
        found = getattr(layer, setting)
        if found != expected and (found, found) != expected and found != (expected, expected):
            raise _unsupported(name, layer, f"has {setting}={found!r}; expected {expected!r}")
    match layer:
        case OperationModule():
            return layer.operation
        case nn.Linear() if kind is nn.Linear:
            return ops.Linear(layer.in_features, layer.out_features, layer.bias is not None)
        case nn.Conv2d(padding=str(padding)):
            raise _unsupported(name, layer, f"has padding={padding!r}; expected numbers")
        case nn.Conv2d() if kind is nn.Conv2d:
            size, stride, padding = map(_short, (layer.kernel_size, layer.stride, layer.padding))
            channels = layer.in_channels, layer.out_channels
            return ops.Convolution(*channels, size, stride, padding, layer.bias is not None)
        case nn.BatchNorm1d() if kind is nn.BatchNorm1d:
            return ops.BatchNorm(layer.num_features, layer.eps, spatial_axes=0)
        case nn.BatchNorm2d() if kind is nn.BatchNorm2d:
            return ops.BatchNorm(layer.num_features, layer.eps)
        case nn.LayerNorm() if kind is nn.LayerNorm:
            shape = tuple(layer.normalized_shape)
            return ops.LayerNorm(shape[0] if len(shape) == 1 else shape, layer.eps)
        case nn.MaxPool2d() | nn.AvgPool2d() if kind in (nn.MaxPool2d, nn.AvgPool2d):
            size, stride, padding = map(_short, (layer.kernel_size, layer.stride, layer.padding))
            pool = ops.MaxPool if kind is nn.MaxPool2d else ops.AveragePool
            return pool(size, None if stride == size else stride, padding)
        case nn.Flatten() if kind is nn.Flatten:
            return ops.Flatten(layer.out_features if isinstance(layer, Rows) else None)
    if kind in OPERATIONS:
        return OPERATIONS[kind]()
    raise _unsupported(name, layer, "has no counterpart in mltk.ops")


def _short(pair: Any) -> Any:
    """One number for two equal ones, as the settings of operations are usually written."""
    return pair[0] if isinstance(pair, tuple) and pair[0] == pair[1] else pair


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
    data = {f"{name}.{key}" for name, layer in model.named_layers for key in _data(layer)}
    for name in model.shapes.keys() | data:
        if name not in flat:
            raise TreeError(f"params has no {name!r}; expected {', '.join(model.shapes)}")
    for name, leaf in flat.items():
        if name not in {**model.shapes, **model.constant_shapes} and name not in data:
            raise TreeError(
                f"params has {name!r}, which is not of the model; expected {', '.join(model.shapes)}"
            )
        expected = model.shapes.get(name, model.constant_shapes.get(name, tuple(leaf.shape)))
        if tuple(leaf.shape) != expected:
            raise ShapeError(f"params: {name} has shape {tuple(leaf.shape)}; expected {expected}")


def _data(operation: Operation) -> tuple[str, ...]:
    """What an operation is given beside its input although it is no parameter of its own."""
    return ("keys", "values") if isinstance(operation, ops.Attention) else ()
