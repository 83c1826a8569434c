"""Meta-parameters that stand beside those of a model, under a key of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mltk.tree import Tree


def free_key(key: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """A key beside parameters: the one that is wanted, with underscores if it is one of theirs."""
    taken = {name.partition(".")[0] for name in shapes}
    while key in taken:
        key += "_"
    return key


def split(params: Tree, key: str) -> tuple[Tree, Any]:
    """What stands beside a key, and what stands under it: an empty tree if there is nothing."""
    return {name: value for name, value in params.items() if name != key}, params.get(key, {})
