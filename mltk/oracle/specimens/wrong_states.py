# ruff: noqa: D102 - `Learner` says what each method is for, and a specimen what is wrong in it
"""Wrong sets, state that was not put back, gradients not cleared, and what is wrong in the end.

Each overrides methods of `Learner`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from mltk.oracle.specimens.declared import specimen
from mltk.oracle.specimens.learner import EXACT, RATES, SUBSETS, UNROLLED, Learner
from mltk.oracle.specimens.network import Arrays, Result, Task, grads_of, learnable
from mltk.oracle.specimens.right_loops import MamlByBackward


@specimen(*UNROLLED, "reptile", mistake="support-query-swapped")
class Swapped(Learner):
    """Support and query set are unpacked in the wrong order."""

    def tasks(self) -> Iterator[Task]:
        for query_x, query_y, support_x, support_y in super().tasks():
            yield Task(support_x, support_y, query_x, query_y)


@specimen(*UNROLLED, "reptile", mistake="wrong-set")
class SupportTwice(Learner):
    """The outer loss is that of the support set."""

    def query_loss(self, fast: Arrays, task: Task) -> Tensor:
        return super().query_loss(fast, task._replace(query_x=task.support_x, query_y=task.support_y))


@specimen(*EXACT, "reptile", mistake="state-leaks-between-tasks")
class NeverRestored(Learner):
    """The fast weights go on from task to task."""

    def adapt(self, fast: Arrays, task: Task) -> Arrays:
        self.start = super().adapt(fast, task)
        return self.start


@specimen(*UNROLLED, "reptile", mistake="one-task-only")
class LastTaskAlone(Learner):
    """The loss of each task overwrites that of the one before."""

    def over_tasks(self, values: Sequence[Tensor]) -> Tensor:
        return values[-1]


@specimen("maml", mistake="one-task-only", scale="divided-by-tasks")
class LastTaskOnly(Learner):
    """Each task's share of the gradient overwrites that of the one before."""

    def over_tasks(self, values: Sequence[Tensor]) -> Tensor:
        self.share = values[-1] / len(values)
        return super().over_tasks(values)

    def gradient(self, value: Tensor) -> Arrays:
        return super().gradient(self.share)


@specimen("maml", mistake="gradient-accumulated-twice")
class BackwardTwice(MamlByBackward):
    """``backward`` is called for each task, and once more."""

    def backward(self, loss: Tensor) -> None:
        torch.autograd.backward(loss / len(self.data.support_x), retain_graph=True)
        super().backward(loss)


@specimen("fomaml", mistake="gradient-accumulated-twice")
class NoZeroGradOutside(MamlByBackward):
    """The second call in a row still has the gradient of the first."""

    def answer(self) -> Result:
        super().answer()
        return super().answer()


@specimen(*EXACT, mistake="outer-gradient-accumulates")
class InnerBackwardReachesTheLeaves(MamlByBackward):
    """The inner ``backward`` adds to the gradients of all that is behind the inner loss, leaves included."""

    def answer(self) -> Result:
        loss, found = super().answer()
        found = {name: g.detach() for name, g in found.items()}
        for p in self.meta.values():
            p.grad = None  # with its graph it would keep itself alive
        return loss, found

    def adapt(self, fast: Arrays, task: Task) -> Arrays:
        fast = {name: p.clone() for name, p in fast.items()}
        for k in range(self.steps):
            for p in fast.values():
                p.retain_grad()
            torch.autograd.backward(self.support_loss(fast, task), create_graph=True)
            fast = {
                name: p - self.rate(name, k) * p.grad if name in self.names and p.grad is not None else p
                for name, p in fast.items()
            }
        return fast


@specimen(*RATES, mistake="rate-gradient-missing")
class RatesDoNotLearn(Learner):
    """The numbers of the rates are passed to the inner loop, without their graph."""

    def rate(self, name: str, k: int) -> Any:
        return super().rate(name, k).detach()


class OfRates(Learner):
    """A factor on the gradients of the rates."""

    def factor(self) -> float:
        """It."""
        raise NotImplementedError

    def gradient(self, value: Tensor) -> Arrays:
        found = super().gradient(value)
        return {n: self.factor() * g if n.partition(".")[0] == "lr" else g for n, g in found.items()}


@specimen(*RATES, mistake="rate-gradient-sign")
class RatesClimb(OfRates):
    """The gradient of the rates by hand lacks the minus of the update."""

    def factor(self) -> float:
        return -1


@specimen(*RATES, mistake="rate-gradient-tasks")
class RatesDividedOnceMore(OfRates):
    """The gradients of the rates are collected task by task, and divided by the number of tasks again."""

    def factor(self) -> float:
        return 1 / len(self.data.support_x)


@specimen(*SUBSETS, mistake="meta-gradient-of-subset")
class OuterOptimiserOfTheAdapted(Learner):
    """Only the adapted parameters are given to the outer optimiser."""

    def gradient(self, value: Tensor) -> Arrays:
        found = super().gradient(value)
        return {name: g if name in self.names else torch.zeros_like(g) for name, g in found.items()}


@specimen(*UNROLLED, mistake="outer-clipping")
class OuterClipping(Learner):
    """The meta-gradient goes through ``clip_grad_norm_`` before it is read."""

    def gradient(self, value: Tensor) -> Arrays:
        found, leaves = super().gradient(value), learnable(self.meta)
        for name, leaf in leaves.items():
            leaf.grad = found[name]
        torch.nn.utils.clip_grad_norm_(leaves.values(), max_norm=0.1)
        return grads_of(leaves)


@specimen("reptile", mistake="reptile-step-size-missing")
class WayOfTheParameters(Learner):
    """The difference of the parameters itself."""

    def way(self, start: Arrays, end: Arrays) -> Arrays:
        return {name: start[name] - end[name] for name in start}


@specimen("reptile", mistake="reptile-one-gradient")
class OldWeightsKeptInTheLoop(Learner):
    """The weights from before the last step are taken for the start."""

    def adapt(self, fast: Arrays, task: Task) -> Arrays:
        self.before = fast
        for k in range(self.steps):
            self.before = fast
            fast = self.step(fast, task, k)
        return fast

    def way(self, start: Arrays, end: Arrays) -> Arrays:
        return super().way(self.before, end)


@specimen("reptile", mistake="reptile-mean-of-steps")
class DividedBySteps(Learner):
    """The way is divided by the number of steps as well."""

    def way(self, start: Arrays, end: Arrays) -> Arrays:
        return {name: g / self.steps for name, g in super().way(start, end).items()}
