"""Links from arrays to what they were computed from, and the way back along them.

This is no autograd: the only derivative that it knows is that of a linear combination. All others come from
`Node.pull_back` of whoever made the node, such as the Hessian product of a gradient in `mltk.modules.module`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import count
from typing import NamedTuple

from mltk.tree import Array

_creations = count()


class Origin(NamedTuple):
    """One array among those that a node stands for."""

    node: Node
    key: str = ""


class Node(ABC):
    """A place where linked arrays come from; it holds links to earlier nodes and no values of arrays.

    Attributes:
        order: How many nodes are older: sources are always older than what is made of them.
        sources: What the arrays of this node depend on.
    """

    __slots__ = ("__weakref__", "order", "sources")

    def __init__(self, sources: Iterable[Origin]) -> None:
        self.order = next(_creations)
        self.sources = tuple(sources)

    @abstractmethod
    def pull_back(self, cotangents: Mapping[str, Array]) -> Sequence[Array]:
        """The cotangent of each source, from those of the node's arrays (zero for keys that are missing)."""


class Combination(Node):
    r"""$\sum_i c_i s_i$ for sources $s_i$ and constants $c_i$, so $\bar s_i = c_i \bar y$; a leaf has none.

    The key of its only array is empty.
    """

    __slots__ = ("factors",)

    def __init__(self, terms: Sequence[tuple[Origin, Array | float | None]] = ()) -> None:
        """Link to each source; the factor ``None`` is one."""
        super().__init__(source for source, _ in terms)
        self.factors = tuple(factor for _, factor in terms)

    def pull_back(self, cotangents: Mapping[str, Array]) -> list[Array]:
        """See `Node.pull_back`."""
        cotangent = cotangents[""]
        return [cotangent if factor is None else factor * cotangent for factor in self.factors]


def pull_back(cotangents: Iterable[tuple[Origin, Array]], wanted: Collection[Node]) -> dict[Node, Array]:
    """Pull cotangents of linked arrays back to earlier ones, along all ways between them.

    Nodes are visited once each, newest first, and only those that lead to a wanted one.

    Args:
        cotangents: Where to start, and with what.
        wanted: Where to arrive: nodes with a single array, whose key is empty.

    Returns:
        The cotangent of each wanted node that something flows to. Where one wanted node lies on the way to
        another, both get what flows to them.
    """
    pending: dict[Node, dict[str, Array]] = {}

    def receive(source: Origin, cotangent: Array) -> None:
        held = pending.setdefault(source.node, {})
        held[source.key] = held[source.key] + cotangent if source.key in held else cotangent

    starts = list(cotangents)
    leading = _leading_to(wanted, (source.node for source, _ in starts))
    for source, cotangent in starts:
        receive(source, cotangent)
    found: dict[Node, Array] = {}
    for node in sorted(leading, key=lambda node: node.order, reverse=True):
        held = pending.pop(node)
        if node in wanted:
            found[node] = held[""]
        for source, cotangent in zip(node.sources, node.pull_back(held), strict=True):
            if source.node in leading:
                receive(source, cotangent)
    return found


def _leading_to(wanted: Collection[Node], starts: Iterable[Node]) -> set[Node]:
    """The nodes on all ways from some to older ones, both ends included."""
    oldest = min((node.order for node in wanted), default=0)
    seen: set[Node] = set()
    unseen = list(starts)
    while unseen:
        node = unseen.pop()
        if node not in seen and node.order >= oldest:
            seen.add(node)
            unseen += [source.node for source in node.sources]
    leading: set[Node] = set()
    for node in sorted(seen, key=lambda node: node.order):
        if node in wanted or any(source.node in leading for source in node.sources):
            leading.add(node)
    return leading
