"""Models: a sequence of operations, and the standard networks of the field."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from mltk import tree
from mltk.backend import check_backend
from mltk.checks import check_choice, check_count, check_scale
from mltk.contracts import Backend
from mltk.errors import SettingError
from mltk.ops import BatchNorm, Convolution, Flatten, Linear, MaxPool, Operation, ReLU
from mltk.ops.activation import ACTIVATIONS, Activation
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class Sequential:
    """Operations applied one after the other.

    The parameters of the operation at position ``i`` stand under the key ``str(i)``, so the flattened names
    are those of `torch.nn.Sequential`.

    Attributes:
        layers: The operations, in order; any iterable is accepted.
        output_scale: What the initial parameters of the last layer that has any are multiplied by; ``None``
            is 1. A policy whose outputs start near zero starts where its actions still make a difference:
            Andrychowicz et al. (2021), *What matters for on-policy deep actor-critic methods?*, section 3.2.

    Examples:
        >>> import mltk
        >>> model = mltk.models.Sequential([mltk.ops.Linear(2, 3), mltk.ops.Tanh()])
        >>> model.shapes
        {'0.weight': (3, 2), '0.bias': (3,)}
    """

    layers: Sequence[Operation]
    output_scale: float | None = None

    def __init__(self, layers: Iterable[Operation], *, output_scale: float | None = None) -> None:
        object.__setattr__(self, "layers", tuple(layers))
        object.__setattr__(self, "output_scale", output_scale)
        if output_scale is not None:
            check_scale("output_scale", output_scale)
        for position, layer in enumerate(self.layers):
            if not isinstance(layer, Operation):
                raise SettingError(f"layers[{position}] is {layer!r}; expected an operation of mltk.ops")

    @cached_property
    def named_layers(self) -> tuple[tuple[str, Operation], ...]:
        """Each operation with the key of its parameters."""
        return tuple((str(position), layer) for position, layer in enumerate(self.layers))

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Dotted name and shape of every parameter, in the order of the layers."""
        return tree.flatten({name: layer.shapes for name, layer in self.named_layers if layer.shapes})

    @cached_property
    def constant_shapes(self) -> dict[str, tuple[int, ...]]:
        """Dotted name and shape of every constant that may stand beside the parameters."""
        return tree.flatten({name: layer.constant_shapes for name, layer in self.named_layers})

    @cached_property
    def example_axes(self) -> frozenset[int] | None:
        """How many axes an example of the inputs may have; ``None`` for any number.

        It is empty if none gets through all layers: one of them would take their axes for tasks.
        """
        first = (layer for layer in self.layers if (layer.example_axes, layer.output_axes) != (None, None))
        asked = next((layer.example_axes for layer in first), None)
        if self.misfit(1 if asked is None else asked) is not None:
            return frozenset()
        return None if asked is None else frozenset([asked])

    def output_axes(self, axes: int) -> int:
        """How many axes an example of the outputs has, if one of the inputs has so many."""
        for layer in self.layers:
            axes = layer.output_axes or axes
        return axes

    def misfit(self, axes: int) -> str | None:
        """Which layer gets other examples than it takes, if one of the inputs has so many axes."""
        for name, layer in self.named_layers:
            if layer.example_axes not in (None, axes):
                return (
                    f"examples with {axes} axes reach {type(layer).__name__}, layer {name} of the model; "
                    f"expected {layer.example_axes}{': flatten each example' * (layer.example_axes == 1)}"
                )
            axes = layer.output_axes or axes
        return None

    @property
    def out_features(self) -> int | None:
        """How many numbers an output has, if the last layer that is no activation says so."""
        for layer in reversed(self.layers):
            if not isinstance(layer, Activation):
                known: int | None = getattr(layer, "out_features", None)
                return known
        return None

    def last_layer(self, x: Array | None = None) -> tuple[str, ...]:
        """Dotted names of the parameters of the last layer that has any; it needs no inputs to be known."""
        position, layer = [(name, layer) for name, layer in self.named_layers if layer.shapes][-1]
        return tuple(f"{position}.{name}" for name in layer.shapes)

    def init(self, backend: Backend, seed: int | np.random.Generator) -> Tree:
        """Draw initial parameters in NumPy, in float64, and convert: the same numbers on each backend.

        Args:
            backend: Where the parameters go, and their dtype.
            seed: A seed or a generator.
        """
        check_backend(backend)
        rng = np.random.default_rng(seed)
        drawn = {name: layer.init(rng) for name, layer in self.named_layers if layer.shapes}
        if self.output_scale is not None and drawn:
            last = list(drawn)[-1]
            drawn[last] = {name: self.output_scale * values for name, values in drawn[last].items()}
        return tree.map(backend.asarray, drawn)

    def apply(self, params: Tree, x: Array) -> Array:
        """The outputs ``(..., N, *features)`` for inputs of that form."""
        for name, layer in self.named_layers:
            x, _ = layer.forward(params.get(name, {}), x)
        return x


def check_model(name: str, value: Any) -> None:
    """Raise `SettingError` unless the setting has what makes a model, with the way from a module of Torch."""
    if any(kind.__module__.startswith("torch.nn.") for kind in type(value).__mro__):
        raise SettingError(
            f"{name} is a {type(value).__name__}, a torch.nn.Module; "
            "expected a model: mltk_backends.torch.ModuleModel(module) makes one of it"
        )
    if isinstance(value, type) or not hasattr(value, "shapes"):
        raise SettingError(f"{name} is {value!r}; expected a model, as from mltk.models")


def mlp(sizes: Sequence[int], *, activation: str = "relu", output_scale: float | None = None) -> Sequential:
    """A fully connected network with an activation after every layer but the last.

    Args:
        sizes: Width of the input, of each hidden layer, and of the output: ``[1, 40, 40, 1]``.
        activation: A name of `mltk.ops.activation.ACTIVATIONS`, as ``"relu"`` and ``"tanh"`` are.
        output_scale: As in `Sequential`.

    Raises:
        SettingError: If a size or the activation is not valid.

    Examples:
        >>> import mltk
        >>> list(mltk.models.mlp([1, 40, 1]).shapes)
        ['0.weight', '0.bias', '2.weight', '2.bias']
    """
    check_choice("activation", activation, ACTIVATIONS)
    if not isinstance(sizes, Iterable) or len(sizes) < 2:
        raise SettingError(f"sizes is {sizes!r}; expected at least two widths")
    for size in sizes:
        check_count("each of sizes", size)
    layers: list[Operation] = []
    for inputs, outputs in pairwise(sizes):
        layers += [Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return Sequential(layers[:-1], output_scale=output_scale)


def conv4(
    in_channels: int,
    image_size: int,
    *,
    width: int | Sequence[int] = 64,
    out_features: int | None = None,
    statistics: Literal["batch", "support", "population"] | None = None,
) -> Sequential:
    """The four-block convolutional network of few-shot image classification (Vinyals et al. 2016).

    Each block is a 3×3 convolution with padding 1, batch norm, 2×2 max pooling and ReLU; the result is
    flattened. Pooling comes before ReLU, with which it commutes, since ReLU then touches a quarter of the
    pixels.

    Args:
        in_channels: Channels of the images.
        image_size: Height and width of the images in pixels, at least 16.
        width: Channels of each block: one number, or four.
        out_features: Width of a final linear layer (the number of ways); ``None`` for an embedding.
        statistics: Where batch norm takes mean and variance from, as in `mltk.ops.BatchNorm`; ``None`` is
            ``"population"`` for an embedding and ``"batch"``, the convention of MAML, with a final layer.

    Raises:
        SettingError: If the image is too small for four poolings, ``width`` is neither one number nor four,
            or ``statistics`` is no such name.

    Examples:
        >>> import mltk
        >>> model = mltk.models.conv4(in_channels=1, image_size=28, width=8, out_features=5)
        >>> model.shapes["0.weight"], model.last_layer()
        ((8, 1, 3, 3), ('17.weight', '17.bias'))
    """
    if statistics is None:
        statistics = "population" if out_features is None else "batch"
    check_count("image_size", image_size, at_least=16)  # for four poolings
    widths = tuple(width) if isinstance(width, Iterable) else (width,) * 4
    if len(widths) != 4:
        raise SettingError(f"width is {width!r}; expected one number of channels, or four")
    layers: list[Operation] = []
    for inputs, outputs in pairwise((in_channels, *widths)):
        norm = BatchNorm(outputs, statistics=statistics)
        layers += [Convolution(inputs, outputs, 3, padding=1), norm, MaxPool(2), ReLU()]
    features = widths[-1] * (image_size // 16) ** 2
    layers.append(Flatten(features))
    if out_features is not None:
        layers.append(Linear(features, out_features))
    return Sequential(layers)
