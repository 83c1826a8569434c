"""Trees: nested dicts of arrays with string keys, for parameters, gradients, updates and learned steps.

Flattened with dots, the keys of a model's parameters are the state-dict names that Torch users know
(``"0.weight"``). All functions are pure: they return new dicts and never change their arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mltk.errors import TreeError

Array = Any
"""An array of any library that follows the Array API standard."""

Tree = dict[str, Any]
"""A nested dict whose leaves are arrays."""


def map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply ``function`` leaf by leaf.

    Args:
        function: Takes one leaf of each tree.
        tree: Gives the structure of the result.
        *others: Trees that hold at least every leaf of ``tree``; leaves beyond those are ignored.

    Raises:
        TreeError: If a leaf of ``tree`` is missing in another tree, or is not a leaf there.
    """
    try:
        return _map(function, tree, *others)
    except (KeyError, IndexError, TypeError, AttributeError):
        for other in others:
            _check_holds(other, tree, "")
        raise


def _map(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """`map` without its checks, and without a loop over the other trees in the common case of one."""
    if len(others) == 1:
        (other,) = others
        return {
            key: _map(function, value, other[key]) if isinstance(value, dict) else function(value, other[key])
            for key, value in tree.items()
        }
    return {
        key: (_map if isinstance(value, dict) else _apply)(function, value, *[other[key] for other in others])
        for key, value in tree.items()
    }


def _apply(function: Callable[..., Any], *leaves: Any) -> Any:
    return function(*leaves)


def _check_holds(other: Any, tree: Tree, above: str) -> None:
    """Raise unless ``other`` has a leaf wherever ``tree``, whose own place is ``above``, has one."""
    for key, value in tree.items():
        if not isinstance(other, dict) or key not in other:
            raise TreeError(f"trees differ: {above}{key} is missing in one of them")
        if isinstance(value, dict):
            _check_holds(other[key], value, f"{above}{key}.")
        elif isinstance(other[key], dict):
            raise TreeError(f"trees differ: {above}{key} is an array in one and a tree in another")


def leaves(tree: Tree) -> list[Any]:
    """The leaves of a tree, in the order of its keys."""
    found: list[Any] = []
    for value in tree.values():
        if isinstance(value, dict):
            found += leaves(value)
        else:
            found.append(value)
    return found


def flatten(tree: Tree) -> dict[str, Any]:
    """One level of dotted names: ``{"0": {"weight": w}}`` becomes ``{"0.weight": w}``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update({f"{key}.{name}": leaf for name, leaf in flatten(value).items()})
        else:
            flat[key] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> Tree:
    """The inverse of `flatten`.

    Raises:
        TreeError: If one name is both a leaf and the start of another, as in ``{"a": …, "a.b": …}``.
    """
    tree: Tree = {}
    for name, leaf in flat.items():
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise TreeError(f"{name!r} lies below a name that is a leaf itself")
        if last in node:
            raise TreeError(f"{name!r} is both a leaf and the start of other names")
        node[last] = leaf
    return tree


def merge(tree: Tree, other: Tree) -> Tree:
    """``tree`` with the leaves of ``other`` in place of, or beside, its own."""
    merged = dict(tree)
    for key, value in other.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return merged


def select(tree: Tree, names: Iterable[str]) -> Tree:
    """The part of ``tree`` whose dotted names are in ``names``, in the order of ``tree``."""
    wanted = frozenset(names)
    return unflatten({name: leaf for name, leaf in flatten(tree).items() if name in wanted})


def without(tree: Tree, names: Iterable[str]) -> Tree:
    """The rest of ``tree``: the leaves whose dotted names are not in ``names``."""
    unwanted = frozenset(names)
    return unflatten({name: leaf for name, leaf in flatten(tree).items() if name not in unwanted})
