"""The layers of Torch that are operations of mltk, and the operations that are layers of Torch."""

from __future__ import annotations

from typing import Any

from torch import nn

from mltk import ops
from mltk.errors import UnsupportedError
from mltk.ops import Operation
from mltk.ops.activation import ACTIVATIONS, Activation

OPERATIONS: dict[type[nn.Module], type[Activation]] = {
    getattr(nn, kind.__name__): kind for kind in ACTIVATIONS.values()
}


class Rows(nn.Flatten):
    """`torch.nn.Flatten` that remembers what it was told about its width."""

    def __init__(self, out_features: int | None) -> None:
        super().__init__()
        self.out_features = out_features


BATCH_NORM = {"affine": True, "track_running_stats": False, "running_mean": None, "running_var": None}

FLATTEN = {"start_dim": 1, "end_dim": -1}

REQUIRED: dict[type[nn.Module], dict[str, Any]] = {
    nn.Linear: {},
    nn.Conv2d: {"padding_mode": "zeros", "groups": 1, "dilation": (1, 1)},
    nn.BatchNorm1d: BATCH_NORM,
    nn.BatchNorm2d: BATCH_NORM,
    nn.LayerNorm: {"elementwise_affine": True},
    nn.MaxPool2d: {"dilation": 1, "ceil_mode": False, "return_indices": False},
    nn.AvgPool2d: {"ceil_mode": False, "count_include_pad": True, "divisor_override": None},
    nn.Flatten: FLATTEN,
    Rows: FLATTEN,
}
"""The layers of Torch that can be an operation of mltk, and the settings with which they are."""


def layer_of(operation: Operation) -> nn.Module | None:
    """The layer of Torch that is the same function of the same parameters; ``None`` if there is none."""
    if type(operation) in OPERATIONS.values():
        layer: nn.Module = getattr(nn, type(operation).__name__)()
        return layer
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


def operation_of(layer: nn.Module) -> Operation:
    """The operation that is the same function as a layer of Torch.

    Raises:
        UnsupportedError: If there is none, which may be because of a setting; the message is the reason.
    """
    if type(layer) in OPERATIONS:
        return OPERATIONS[type(layer)]()
    if type(layer) not in REQUIRED:
        raise UnsupportedError("has no counterpart in mltk.ops")
    for setting, expected in REQUIRED[type(layer)].items():
        found = getattr(layer, setting)
        if found != expected and (found, found) != expected and found != (expected, expected):
            raise UnsupportedError(f"has {setting}={found!r}; expected {expected!r}")
    match layer:
        case nn.Linear():
            return ops.Linear(layer.in_features, layer.out_features, layer.bias is not None)
        case nn.Conv2d(padding=str(padding)):
            raise UnsupportedError(f"has padding={padding!r}; expected numbers")
        case nn.Conv2d():
            size, stride, padding = map(_short, (layer.kernel_size, layer.stride, layer.padding))
            channels = layer.in_channels, layer.out_channels
            return ops.Convolution(*channels, size, stride, padding, layer.bias is not None)
        case nn.BatchNorm1d():
            return ops.BatchNorm(layer.num_features, layer.eps, spatial_axes=0)
        case nn.BatchNorm2d():
            return ops.BatchNorm(layer.num_features, layer.eps)
        case nn.LayerNorm():
            shape = tuple(layer.normalized_shape)
            return ops.LayerNorm(shape[0] if len(shape) == 1 else shape, layer.eps)
        case nn.MaxPool2d() | nn.AvgPool2d():
            size, stride, padding = map(_short, (layer.kernel_size, layer.stride, layer.padding))
            pool = ops.MaxPool if isinstance(layer, nn.MaxPool2d) else ops.AveragePool
            return pool(size, None if stride == size else stride, padding)
        case nn.Flatten():
            return ops.Flatten(layer.out_features if isinstance(layer, Rows) else None)
    raise AssertionError(f"REQUIRED has {type(layer).__name__}, and no case has it")


def _short(pair: Any) -> Any:
    """One number for two equal ones, as the settings of operations are usually written."""
    return pair[0] if isinstance(pair, tuple) and pair[0] == pair[1] else pair
