# ruff: noqa: D102 - `Learner` says what each method is for, and a specimen what is wrong in it
"""Wrong derivatives of the inner loop, and wrong numbers of steps. Each overrides methods of `Learner`."""

from __future__ import annotations

import torch
from torch import Tensor

from mltk.oracle.specimens.declared import a_rate_for_all_steps, specimen
from mltk.oracle.specimens.learner import EXACT, UNROLLED, Learner
from mltk.oracle.specimens.network import Arrays, Result, Task, grads_of, learnable


@specimen("maml", "anil", "boil", "maml-learned-rates", mistake="first-order")
class FirstOrderWithoutGraph(Learner):
    """``create_graph=True`` was forgotten."""

    first_order = True


@specimen("fomaml")
@specimen("maml", "meta-sgd", mistake="first-order")
class FirstOrderByDetach(Learner):
    """Inner gradients are detached from the graph: right in first-order MAML, and nowhere else."""

    def step(self, fast: Arrays, task: Task, k: int) -> Arrays:
        slopes = torch.autograd.grad(self.support_loss(fast, task), list(fast.values()), create_graph=True)
        moved = zip(fast.items(), slopes, strict=True)
        return {name: p - self.rate(name, k) * g.detach() for (name, p), g in moved}


@specimen("maml", mistake="first-order")
class FirstOrderBeyondFourSteps(Learner):
    """The graph is dropped when there are many steps, to save memory."""

    def slopes(self, value: Tensor, fast: Arrays, k: int) -> Arrays:
        found = super().slopes(value, fast, k)
        return {name: g.detach() for name, g in found.items()} if self.steps > 4 else found


@specimen("fomaml", mistake="second-order-kept")
class SecondOrderKept(Learner):
    """First-order MAML that says so and keeps the graph of the inner gradients."""

    first_order = False


@specimen(*EXACT, mistake="truncated")
class LastStepAlone(Learner):
    """The fast weights are detached before the last step, to save memory."""

    def slopes(self, value: Tensor, fast: Arrays, k: int) -> Arrays:
        found = super().slopes(value, fast, k)
        return found if k == self.steps - 1 else {name: g.detach() for name, g in found.items()}


@specimen("maml", mistake="truncated")
class GraphOfFirstStep(Learner):
    """The inner gradient of the first step alone is differentiated."""

    def slopes(self, value: Tensor, fast: Arrays, k: int) -> Arrays:
        found = super().slopes(value, fast, k)
        return found if k == 0 else {name: g.detach() for name, g in found.items()}


@specimen(*EXACT, mistake="second-order-factor")
class HessianOfOtherSign(Learner):
    """The way back by hand adds the Hessian products where it should subtract them."""

    def slopes(self, value: Tensor, fast: Arrays, k: int) -> Arrays:
        found = super().slopes(value, fast, k)
        return {name: 2 * g.detach() - g for name, g in found.items()}


@specimen(*UNROLLED, "reptile", mistake="inner-step-missing")
class OneStepLess(Learner):
    """A loop that counts from one."""

    def adapt(self, fast: Arrays, task: Task) -> Arrays:
        for k in range(1, self.steps):
            fast = self.step(fast, task, k - 1)
        return fast


@specimen("maml", mistake="inner-step-missing")
class LastStepMissing(Learner):
    """The last inner gradient is computed, and its step never taken."""

    def adapt(self, fast: Arrays, task: Task) -> Arrays:
        moved = fast
        for k in range(self.steps):
            fast, moved = moved, self.step(moved, task, k)
        return fast


@specimen(*UNROLLED, "reptile", mistake="extra-step", only=a_rate_for_all_steps)
class OneStepMore(Learner):
    """A loop that includes its end."""

    def adapt(self, fast: Arrays, task: Task) -> Arrays:
        for k in range(self.steps + 1):
            fast = self.step(fast, task, k)
        return fast


@specimen("maml", "meta-sgd", mistake="extra-step", beside="first-order")
class OneStepMoreFirstOrder(FirstOrderWithoutGraph, OneStepMore):
    """Another step, and constants for inner gradients."""


@specimen(*UNROLLED, mistake="query-loss-at-initial-parameters")
class QueryAtTheStart(Learner):
    """The query set goes through the network that the inner loop did not move."""

    def task_loss(self, task: Task) -> Tensor:
        self.adapt(self.start, task)
        return self.query_loss(self.start, task)


class EveryStep(Learner):
    """Collects the query losses after each step."""

    def losses(self, task: Task) -> Tensor:
        """Those of a task."""
        fast, found = self.start, []
        for k in range(self.steps):
            fast = self.step(fast, task, k)
            found.append(self.query_loss(fast, task))
        return torch.stack(found or [self.query_loss(fast, task)])


@specimen(*UNROLLED, mistake="multi-step-loss")
class MultiStepLoss(EveryStep):
    """The query losses after all inner steps are averaged, as at the start of the training of MAML++."""

    def task_loss(self, task: Task) -> Tensor:
        return self.losses(task).mean()


@specimen("maml", mistake="multi-step-loss")
class LossesAddedUpInTheLoop(EveryStep):
    """``loss += ...`` stands inside of the inner loop."""

    def task_loss(self, task: Task) -> Tensor:
        return self.losses(task).sum()


@specimen("maml", "fomaml", "anil", "boil", mistake="stale-weights")
class DataPutBackTooEarly(Learner):
    """Weights move in place, as ``.data``, and are put back so before ``backward``."""

    def answer(self) -> Result:
        leaves, losses = learnable(self.start), []
        for task in self.tasks():
            for k in range(self.steps):
                for name, g in self.slopes(self.support_loss(leaves, task), leaves, k).items():
                    leaves[name].data.sub_(self.rate(name, k) * g.detach())
            losses.append(self.query_loss(leaves, task))
            for name, p in leaves.items():
                p.data.copy_(self.start[name])
        value = self.over_tasks(losses)
        torch.autograd.backward(value)
        return value.detach(), grads_of(leaves)
