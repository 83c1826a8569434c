"""Large images one task after the other, where a CPU has no room for those of all tasks in its caches."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch

from mltk import tree
from mltk.contracts import Linearization, Objective
from mltk.tree import Tree

LARGE = 2**14
"""Numbers in the images of one task from which on a CPU takes the tasks one after the other.

Found by `mltk bench conv4-maml` on a CPU with two cores.
"""


Linearize = TypeVar("Linearize", bound=Callable[..., Linearization])


def task_by_task(linearize: Linearize) -> Linearize:
    """An engine's ``linearize`` that takes large images one task after the other, and else all at once."""

    @wraps(linearize)
    def linearized(
        self: Any, objective: Objective, params: Tree, x: torch.Tensor, y: torch.Tensor, **options: Any
    ) -> Linearization:
        shapes = objective.model.shapes
        large = x.shape[0] > 1 and x.device.type == "cpu" and x[0].numel() > LARGE
        if not large or not any(len(shape) == 4 for shape in shapes.values()):
            return linearize(self, objective, params, x, y, **options)
        shapes = {**shapes, **getattr(objective.model, "constant_shapes", {})}
        flat = {name: leaf for name, leaf in tree.flatten(params).items() if name in shapes}
        parts = []
        for task in range(x.shape[0]):
            one = slice(task, task + 1)
            own = {name: leaf[one] if leaf.ndim > len(shapes[name]) else leaf for name, leaf in flat.items()}
            parts.append(linearize(self, objective, tree.unflatten(own), x[one], y[one], **options))
        return _TaskByTask(parts)

    return cast("Linearize", linearized)


class _TaskByTask:
    """The linearisations of tasks that were taken one after the other."""

    def __init__(self, parts: list[Linearization]) -> None:
        self._parts = parts
        self.value = torch.cat([part.value for part in parts])
        self.grad = _concatenated([part.grad for part in parts])

    def hvp(self, v: Tree) -> Tree:
        """See `mltk.contracts.Linearization.hvp`; ``v`` carries the task axis."""
        return _concatenated(
            [
                part.hvp(tree.map(lambda leaf, one=slice(task, task + 1): leaf[one], v))
                for task, part in enumerate(self._parts)
            ]
        )


def _concatenated(trees: list[Tree]) -> Tree:
    return tree.map(lambda *leaves: torch.cat(leaves), *trees)
