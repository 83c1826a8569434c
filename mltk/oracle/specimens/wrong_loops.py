# ruff: noqa: D102 - `Learner` says what each method is for, and a specimen what is wrong in it
"""Wrong inner loops: derivatives, steps, examples and state. Each overrides methods of `Learner`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from mltk.oracle.specimens.declared import specimen
from mltk.oracle.specimens.learner import EXACT, OTHERS, UNROLLED, Learner
from mltk.oracle.specimens.network import Arrays, Result, Task, gradients, grads_of, learnable

RATES = ("meta-sgd", "maml-learned-rates")
SUBSETS = ("anil", "boil")


@specimen("maml-learned-rates", mistake="first-order")
class InnerGradientsAreConstants(Learner):
    """The inner gradients are detached, whatever is asked for."""

    def __init__(self, params: Arrays, data: Any, settings: Any) -> None:
        super().__init__(params, data, settings)
        self.create_graph = False


@specimen("anil", "boil", "meta-sgd", "maml-learned-rates", mistake="truncated")
class LastStepAlone(Learner):
    """The fast weights are detached before the last step, to save memory."""

    def slopes(self, value: Tensor, fast: Arrays, k: int) -> Arrays:
        found = super().slopes(value, fast, k)
        return found if k == self.steps - 1 else {name: g.detach() for name, g in found.items()}


@specimen(*EXACT, mistake="second-order-factor")
class HessianOfOtherSign(Learner):
    """The way back by hand adds the Hessian products where it should subtract them."""

    def slopes(self, value: Tensor, fast: Arrays, k: int) -> Arrays:
        found = super().slopes(value, fast, k)
        return {name: 2 * g.detach() - g for name, g in found.items()}


@specimen(*OTHERS, "reptile", mistake="inner-step-missing")
class OneStepLess(Learner):
    """A loop that counts from one."""

    def adapt(self, fast: Arrays, task: Task) -> Arrays:
        for k in range(1, self.steps):
            fast = self.step(fast, task, k - 1)
        return fast


@specimen(*OTHERS, "reptile", mistake="extra-step")
class OneStepMore(Learner):
    """A loop that includes its end."""

    def adapt(self, fast: Arrays, task: Task) -> Arrays:
        for k in range(self.steps + 1):
            if self.settings.get("lr_per_step") and k == self.steps:
                raise NotImplementedError("there is no step size for another step")
            fast = self.step(fast, task, k)
        return fast


@specimen(*OTHERS, mistake="query-loss-at-initial-parameters")
class QueryAtTheStart(Learner):
    """The query set goes through the network that the inner loop did not move."""

    def task_loss(self, task: Task) -> Tensor:
        self.adapt(self.start, task)
        return self.query_loss(self.start, task)


@specimen(*OTHERS, "reptile", mistake="support-query-swapped")
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


@specimen("boil", "meta-sgd", "maml-learned-rates", "reptile", mistake="state-leaks-between-tasks")
class NeverRestored(Learner):
    """The fast weights go on from task to task."""

    def adapt(self, fast: Arrays, task: Task) -> Arrays:
        self.start = super().adapt(fast, task)
        return self.start


@specimen(*UNROLLED, "reptile", mistake="one-task-only")
class LastTaskAlone(Learner):
    """The loss of each task overwrites that of the one before."""

    def over_tasks(self, losses: list[Tensor]) -> Tensor:
        return losses[-1]

    def way(self, start: Arrays, end: Arrays) -> Arrays:
        self.seen = getattr(self, "seen", 0) + 1
        last = self.seen == len(self.data.support_x)
        return {name: last * self.seen * g for name, g in super().way(start, end).items()}


@specimen("anil", "boil", "meta-sgd", "maml-learned-rates", mistake="outer-gradient-accumulates")
class InnerBackwardReachesTheLeaves(Learner):
    """The inner ``backward`` adds to the gradients of all that is behind the inner loss, leaves included."""

    def answer(self) -> Result:
        losses = []
        for task in self.tasks():
            fast = {name: p.clone() for name, p in self.start.items()}
            for k in range(self.steps):
                for p in fast.values():
                    p.retain_grad()
                torch.autograd.backward(self.support_loss(fast, task), create_graph=True)
                fast = {
                    name: p - self.rate(name, k) * p.grad if name in self.names and p.grad is not None else p
                    for name, p in fast.items()
                }
            value = self.query_loss(fast, task)
            torch.autograd.backward(value / len(self.data.support_x))
            losses.append(value.detach())
        found = {name: g.detach() for name, g in grads_of(self.meta).items()}
        for p in self.meta.values():
            p.grad = None  # with its graph it would keep itself alive
        return torch.stack(losses).mean(), found


class Buffered(Learner):
    """Steps along a buffer of gradients."""

    kept = 1.0

    def adapt(self, fast: Arrays, task: Task) -> Arrays:
        buffer = {name: torch.zeros_like(fast[name]) for name in self.names}
        for k in range(self.steps):
            slopes = self.slopes(self.support_loss(fast, self.batch(task, k)), fast, k)
            buffer = {name: self.kept * buffer[name] + g for name, g in slopes.items()}
            fast = {**fast, **{name: fast[name] - self.rate(name, k) * g for name, g in buffer.items()}}
        return fast


@specimen("anil", "boil", "meta-sgd", "maml-learned-rates", "reptile", mistake="inner-gradients-accumulate")
class InnerGradientsAddedUp(Buffered):
    """Each inner gradient is added to those before."""


@specimen(*OTHERS, "reptile", mistake="momentum-in-inner-loop")
class InnerMomentum(Buffered):
    """The inner optimiser has a momentum of 0.9."""

    kept = 0.9


@specimen(*OTHERS, "reptile", mistake="inner-loss-summed")
class InnerLossSummed(Learner):
    """The inner loss adds the examples up."""

    def support_loss(self, fast: Arrays, task: Task) -> Tensor:
        return super().support_loss(fast, task) * len(task.support_x)


@specimen(*OTHERS, "reptile", mistake="inner-rate-factor")
class HalfInnerLoss(Learner):
    """The inner loss has a half in front, as squared errors often do."""

    def support_loss(self, fast: Arrays, task: Task) -> Tensor:
        return super().support_loss(fast, task) / 2


@specimen("maml-learned-rates", mistake="rate-gradient-missing")
class RatesDoNotLearn(Learner):
    """The numbers of the rates are passed to the inner loop, without their graph."""

    def rate(self, name: str, k: int) -> Any:
        return super().rate(name, k).detach()


@specimen("maml-learned-rates", mistake="rate-gradient-sign")
class RatesClimb(Learner):
    """The gradient of the rates by hand lacks the minus of the update."""

    def gradient(self, value: Tensor) -> Arrays:
        found = super().gradient(value)
        return {name: -g if name.partition(".")[0] == "lr" else g for name, g in found.items()}


@specimen("maml", "fomaml", "meta-sgd", "maml-learned-rates", mistake="adapted-subset-wrong")
class BiasesStay(Learner):
    """The inner loop moves what ends in ``weight`` alone."""

    def __init__(self, params: Arrays, data: Any, settings: Any) -> None:
        super().__init__(params, data, settings)
        self.names = [name for name in self.names if name.endswith("weight")]


@specimen(*SUBSETS, mistake="meta-gradient-of-subset")
class OuterOptimiserOfTheAdapted(Learner):
    """Only the adapted parameters are given to the outer optimiser."""

    def gradient(self, value: Tensor) -> Arrays:
        found = super().gradient(value)
        return {name: g if name in self.names else torch.zeros_like(g) for name, g in found.items()}


@specimen("anil", "boil", "meta-sgd", "maml-learned-rates", "reptile", mistake="weight-decay-in-inner-loop")
class InnerWeightDecay(Learner):
    """The inner optimiser has a weight decay of 0.01."""

    def slopes(self, value: Tensor, fast: Arrays, k: int) -> Arrays:
        return {name: g + 0.01 * fast[name] for name, g in super().slopes(value, fast, k).items()}


@specimen("anil", "boil", "meta-sgd", "maml-learned-rates", "reptile", mistake="gradient-clipping")
class InnerClipping(Learner):
    """The norm of the inner gradient is clipped, to 0.25."""

    def slopes(self, value: Tensor, fast: Arrays, k: int) -> Arrays:
        found = super().slopes(value, fast, k)
        norm = torch.cat([g.flatten() for g in found.values()]).norm()
        return {name: g * (0.25 / (norm + 1e-6)).clamp(max=1.0) for name, g in found.items()}


@specimen(*OTHERS, mistake="outer-clipping")
class OuterClipping(Learner):
    """The meta-gradient goes through ``clip_grad_norm_`` before it is read."""

    def gradient(self, value: Tensor) -> Arrays:
        found, leaves = super().gradient(value), learnable(self.meta)
        for name, leaf in leaves.items():
            leaf.grad = found[name]
        torch.nn.utils.clip_grad_norm_(leaves.values(), max_norm=0.1)
        return grads_of(leaves)


class EveryStep(Learner):
    """Collects the query losses after each step."""

    def losses(self, task: Task) -> list[Tensor]:
        """Those of a task."""
        fast, found = self.start, []
        for k in range(self.steps):
            fast = self.step(fast, task, k)
            found.append(self.query_loss(fast, task))
        return found or [self.query_loss(fast, task)]


@specimen(*UNROLLED, mistake="multi-step-loss")
class MultiStepLoss(EveryStep):
    """The query losses after all inner steps are averaged, as at the start of the training of MAML++."""

    def task_loss(self, task: Task) -> Tensor:
        return torch.stack(self.losses(task)).mean()


@specimen("maml", mistake="multi-step-loss")
class LossesAddedUpInTheLoop(EveryStep):
    """``loss += ...`` stands inside of the inner loop."""

    def task_loss(self, task: Task) -> Tensor:
        return torch.stack(self.losses(task)).sum()


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


@specimen("meta-sgd", "maml-learned-rates", mistake="rate-gradient-tasks")
class RatesDividedOnceMore(Learner):
    """The gradients of the rates are collected task by task, and divided by the number of tasks again."""

    def gradient(self, value: Tensor) -> Arrays:
        found, count = super().gradient(value), len(self.data.support_x)
        return {name: g / count if name.partition(".")[0] == "lr" else g for name, g in found.items()}


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


@specimen("reptile", mistake="reptile-query-gradient")
class FirstOrderByAnotherName(Learner):
    """First-order MAML under the name of Reptile."""

    def reptile(self) -> Result:
        losses, total = [], {name: torch.zeros_like(p) for name, p in self.start.items()}
        for task in self.tasks():
            fast = learnable(self.adapt(self.start, task))
            value = self.query_loss(fast, task)
            losses.append(value.detach())
            for name, g in gradients(value, fast).items():
                total[name] += g / len(self.data.support_x)
        return self.over_tasks(losses), total


@specimen("reptile", mistake="reptile-batches")
class WholeSupportSet(Learner):
    """The batch size is ignored."""

    def batch(self, task: Task, k: int) -> Task:
        return task
