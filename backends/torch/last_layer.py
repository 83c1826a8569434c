"""Which layer of a module is the last: found from the graph of one run, not by order of registration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from mltk.errors import UnsupportedError

PARAMETRIZATIONS = ".parametrizations."
Below = dict[Any, frozenset[str]]
"""For nodes of a graph: the parameters that each depends on."""


def last_layer(
    module: nn.Module, outputs: torch.Tensor, parameters: Mapping[str, torch.Tensor]
) -> tuple[str, ...]:
    """The names of the parameters of the layer that made the outputs.

    It is the module that holds the parameter which was used last on the way to the outputs, provided that
    all other parameters act through it.

    Args:
        module: What was run, for the names of its layers.
        outputs: What it gave.
        parameters: The leaves that it was run on, each under its (first) name.

    Raises:
        UnsupportedError: If there is no such layer: several end in the outputs side by side, or it shares a
            parameter with another one.
    """
    names = {id(leaf): name for name, leaf in parameters.items()}
    below = _below(outputs.grad_fn, names)
    uses: dict[str, int] = {}  # the last operation on each parameter, by the order of operations
    for node in below:
        for child, _ in node.next_functions:
            if (name := _parameter(child, names)) is not None:
                uses[name] = max(uses.get(name, 0), node._sequence_nr())
    if not uses:
        raise UnsupportedError(f"no parameter of {type(module).__name__} has a part in its outputs")
    last = max(uses, key=lambda name: uses[name])
    layer, shared = _layer_of(module, last, parameters)
    others = sorted(_beside(outputs.grad_fn, below, names, layer))
    if shared or others:
        reason = (
            f"it shares parameters with {shared}"
            if shared
            else f"{', '.join(others)} reach the outputs beside it"
        )
        raise UnsupportedError(
            f"the last layer of {type(module).__name__} is ambiguous: {', '.join(layer)} is used last, but "
            f"{reason}; name the layer, as in adapt_only={_owner(last) or last!r}"
        )
    return layer


def _owner(name: str) -> str:
    """The dotted name of the layer that a parameter belongs to."""
    return name.partition(PARAMETRIZATIONS)[0] if PARAMETRIZATIONS in name else name.rpartition(".")[0]


def _layer_of(
    module: nn.Module, last: str, parameters: Mapping[str, torch.Tensor]
) -> tuple[tuple[str, ...], str]:
    """The parameters of the layer that holds one, and the name of another layer that shares one of them."""
    owner = _owner(last)
    layer = tuple(name for name in parameters if _owner(name) == owner)
    first = {id(p): name for name, p in module.named_parameters()}
    held = {first[id(p)] for p in module.get_submodule(owner)._parameters.values() if p is not None}
    for other, part in module.named_modules():
        if other == owner or PARAMETRIZATIONS in f"{other}.":
            continue
        names = {first[id(p)] for p in part._parameters.values() if p is not None}
        if not names.isdisjoint(held.union(layer)):
            return layer, other
    return layer, ""


def _beside(root: Any, below: Below, names: Mapping[int, str], layer: tuple[str, ...]) -> set[str]:
    """The parameters that reach a node otherwise than through an operation on a layer's own."""
    own = frozenset(layer)

    def of_layer(node: Any) -> bool:
        return bool(below[node]) and below[node] <= own

    found: set[str] = set()
    seen, waiting = set(), [root]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (name := _parameter(node, names)) is not None:
            found.add(name)
        children = [child for child, _ in node.next_functions if child is not None]
        if not any(of_layer(child) for child in children):
            waiting += children
    return found - own


def _below(root: Any, names: Mapping[int, str]) -> Below:
    """For a node and each one below it: the parameters that it depends on."""
    below: Below = {}
    waiting = [] if root is None else [root]
    while waiting:
        node = waiting[-1]
        children = [child for child, _ in node.next_functions if child is not None]
        missing = [child for child in children if child not in below]
        if missing:
            waiting += missing
            continue
        waiting.pop()
        name = _parameter(node, names)
        below[node] = frozenset([name] if name is not None else []).union(*(below[c] for c in children))
    return below


def _parameter(node: Any, names: Mapping[int, str]) -> str | None:
    """The name of the parameter whose end of the graph a node is."""
    return names.get(id(getattr(node, "variable", None)))
