# ruff: noqa: D102 - `Learner` says what each method is for, and a specimen what is wrong in it
"""Mistakes that no catalogue has: they must be found, and no known name may be given to them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mltk.oracle.specimens.declared import UNKNOWN, specimen
from mltk.oracle.specimens.learner import Learner
from mltk.oracle.specimens.network import Arrays, Result, Task, grads_of


@specimen("maml", mistake=UNKNOWN)
class SignOfABias(Learner):
    """A hand-written gradient whose last bias has the wrong sign."""

    def gradient(self, value: Tensor) -> Arrays:
        found = super().gradient(value)
        last = [name for name in found if name.endswith("bias")][-1]
        return {**found, last: -found[last]}


@specimen("maml", mistake=UNKNOWN)
class FrozenLayer(Learner):
    """The first layer was frozen once and gets no gradient."""

    def gradient(self, value: Tensor) -> Arrays:
        found = super().gradient(value)
        return {name: torch.zeros_like(g) if name.startswith("0.") else g for name, g in found.items()}


@specimen("maml", mistake=UNKNOWN)
class TransposedWeight(Learner):
    """The first weight gradient was read in the other order of memory."""

    def gradient(self, value: Tensor) -> Arrays:
        found = super().gradient(value)
        g = found["0.weight"]
        return {**found, "0.weight": g.transpose(0, 1).reshape(g.shape)}


@specimen("maml", mistake=UNKNOWN)
class NoiseInATask(Learner):
    """The noise of an augmentation on the first task's queries."""

    def tasks(self) -> Iterator[Task]:
        first, *others = super().tasks()
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(first.query_x.shape, generator=generator, dtype=torch.float64)
        yield first._replace(query_x=first.query_x + 0.05 * noise.to(first.query_x.dtype))
        yield from others


@specimen("maml", mistake=UNKNOWN)
class GrowingLossBackwards(Learner):
    """``backward`` is called on the growing sum of the losses: the first task counts most."""

    def answer(self) -> Result:
        total = torch.zeros((), dtype=self.data.query_x.dtype)
        for task in self.tasks():
            total = total + self.task_loss(task) / len(self.data.support_x)
            torch.autograd.backward(total, retain_graph=True)
        return total.detach(), grads_of(self.meta)
