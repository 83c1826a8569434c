"""Embedding for prediction, where no derivative is wanted: a few tasks at a time, and nothing twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from mltk import tree
from mltk.contracts import Model
from mltk.normalization import support_statistics
from mltk.ops.kernels import kernels_of
from mltk.tree import Array, Tree

ENOUGH = 50_000
"""Numbers that a processor embeds at once: for what layers make of more, memory is fetched anew each time."""

_found: ContextVar[dict[tuple[Any, ...], tuple[Any, ...]] | None] = ContextVar("found", default=None)


@contextmanager
def embedded_once() -> Iterator[None]:
    """While it lasts, what the same model with the same parameters embeds again is not computed again.

    Nothing may be written to the arrays. What a model draws at random, it draws once.
    """
    token = _found.set({})
    try:
        yield
    finally:
        _found.reset(token)


def embed(model: Model, params: Tree, x: Array) -> Array:
    """The outputs of a model for inputs ``(T, N, *features)``, whose tasks do not see each other.

    Args:
        model: The model.
        params: Its parameters, each with or without a task axis.
        x: The inputs.
    """
    return _once(_in_pieces, model, params, x)


def statistics_of_support(model: Model, params: Tree, x: Array) -> Tree:
    """See `mltk.normalization.support_statistics`."""
    found: Tree = _once(support_statistics, model, params, x)
    return found


def _once(function: Callable[[Model, Tree, Array], Any], model: Model, params: Tree, x: Array) -> Any:
    """What a function gives, or has given for the very same objects, which are held so that none is new."""
    found = _found.get()
    if found is None:
        return function(model, params, x)
    given = (function, model, x, *tree.leaves(params))
    key = tuple(map(id, given))
    if key not in found:
        found[key] = (function(model, params, x), given)
    return found[key][0]


def _in_pieces(model: Model, params: Tree, x: Array) -> Array:
    """The outputs, of a few tasks at a time on a processor."""
    tasks = x.shape[0]
    at_once = max(1, ENOUGH // math.prod(x.shape[1:]))
    if at_once >= tasks or str(x.device) != "cpu":
        return model.apply(params, x)
    # Beside the parameters stand constants, of one axis.
    own = [
        name
        for name, leaf in tree.flatten(params).items()
        if leaf.ndim > len(model.shapes.get(name, "C")) and leaf.shape[0] == tasks
    ]
    shared, of_tasks = tree.without(params, own), tree.select(params, own)
    parts = []
    for first in range(0, tasks, at_once):
        some = slice(first, first + at_once)
        here = tree.merge(shared, tree.map(lambda leaf, some=some: leaf[some], of_tasks))
        parts.append(model.apply(here, x[some]))
    return kernels_of(x).xp.concat(parts, axis=0)
