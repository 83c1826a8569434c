# ruff: noqa: D102 - `Learner` says what each method is for, and a specimen what is wrong in it
"""Sums that should be means and other wrong scales, alone and on top of another mistake; single precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mltk.oracle.specimens.declared import classes, regression, specimen
from mltk.oracle.specimens.learner import Learner
from mltk.oracle.specimens.network import Arrays, Task
from mltk.oracle.specimens.right_loops import MamlByBackward
from mltk.oracle.specimens.wrong_orders import (
    FirstOrderWithoutGraph,
    LastStepAlone,
    OneStepMore,
    OneStepMoreFirstOrder,
    SecondOrderKept,
)
from mltk.oracle.specimens.wrong_passes import EndsInSoftmax
from mltk.oracle.specimens.wrong_states import NoZeroGradOutside, RatesClimb, Swapped
from mltk.oracle.specimens.wrong_steps import AdaptsEverything, InnerLossSummed


@specimen("maml", mistake="sum-over-tasks")
class SumOverTasks(Learner):
    """The losses of the tasks are added, and not divided."""

    def over_tasks(self, values: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(values)).sum(0)


@specimen("maml", mistake="sum-over-tasks")
class SumOverTasksInGrad(MamlByBackward):
    """``backward`` is called for each task, and the mean loss printed."""

    def backward(self, loss: Tensor) -> None:
        torch.autograd.backward(loss)


@specimen("maml", mistake="sum-over-examples")
class SumOverExamples(Learner):
    """The query losses of the examples are added."""

    def query_loss(self, fast: Arrays, task: Task) -> Tensor:
        return super().query_loss(fast, task) * len(task.query_x)


@specimen("maml", mistake="sum-over-examples")
class SumOverExamplesByReduction(Learner):
    """``reduction="sum"`` in the query loss, which for squared errors adds output features, too."""

    def query_loss(self, fast: Arrays, task: Task) -> Tensor:
        outputs = self.query_outputs(fast, task)
        value: Tensor = self.settings.loss_function()(outputs, task.query_y, reduction="sum")
        return value


@specimen("maml", mistake="sum-over-tasks-and-examples")
class SumOverEverything(SumOverTasks, SumOverExamples):
    """The query losses of all examples of all tasks are added."""


@specimen("maml", mistake="sum-over-output-features", only=regression)
class SquaredNorm(Learner):
    """The squared norm of the difference for the mean of its squares."""

    def query_loss(self, fast: Arrays, task: Task) -> Tensor:
        return super().query_loss(fast, task) * task.query_y.shape[-1]


@specimen("maml", "fomaml", mistake="sum-over-classes", only=classes)
class LossOfEachClass(Learner):
    """The loss is multiplied by the number of classes."""

    def query_loss(self, fast: Arrays, task: Task) -> Tensor:
        return super().query_loss(fast, task) * int(self.settings.ways)


@specimen("maml", mistake="divided-by-tasks")
class MeanDividedOnceMore(Learner):
    """The loss of each task is divided by their number, and their mean taken."""

    def over_tasks(self, values: Sequence[Tensor]) -> Tensor:
        return super().over_tasks(values) / len(values)


@specimen("maml", mistake="divided-by-examples")
class MeanDividedByBatch(Learner):
    """A mean loss, divided by the batch size."""

    def query_loss(self, fast: Arrays, task: Task) -> Tensor:
        return super().query_loss(fast, task) / len(task.query_x)


@specimen("maml", mistake="sign")
class DescentDirection(Learner):
    """The direction of descent for the gradient."""

    def gradient(self, value: Tensor) -> Arrays:
        return {name: -g for name, g in super().gradient(value).items()}


@specimen("maml", mistake="step-size")
class UpdateForGradient(Learner):
    """The update for the gradient."""

    def gradient(self, value: Tensor) -> Arrays:
        return {name: self.settings.inner_lr * g for name, g in super().gradient(value).items()}


@specimen("maml", "anil", "meta-sgd", mistake="single-precision")
class InputsInSinglePrecision(Learner):
    """The inputs go through ``.float()`` on their way."""

    def network(self, fast: Arrays, x: Tensor, support_rows: int | None = None) -> Tensor:
        return super().network(fast, x.float().to(x.dtype) * (1 + 2**-24), support_rows)


@specimen("maml", mistake="first-order", scale="sum-over-tasks")
class FirstOrderAndSum(SumOverTasks, FirstOrderWithoutGraph):
    """No ``create_graph``, and no division by the number of tasks."""


@specimen("maml", mistake="first-order", scale="gradient-accumulated-twice")
class FirstOrderAndTwice(NoZeroGradOutside, FirstOrderWithoutGraph):
    """No ``create_graph``, and a gradient that is accumulated twice."""


@specimen("fomaml", mistake="second-order-kept", scale="gradient-accumulated-twice")
class KeptOrderAndTwice(NoZeroGradOutside, SecondOrderKept):
    """The Hessian is kept, and the gradient accumulated twice."""


@specimen("maml", mistake="extra-step", scale="sum-over-examples")
class ExtraStepAndSumOverExamples(SumOverExamples, OneStepMore):
    """A step too many, and query losses of the examples that are added."""


@specimen("maml", mistake="extra-step", beside="first-order", scale="sum-over-tasks")
class OneStepMoreFirstOrderSum(SumOverTasks, OneStepMoreFirstOrder):
    """Another step, constants for inner gradients, and losses that are added up."""


@specimen("maml", mistake="inner-loss-summed", scale="sum-over-examples")
class SummedEverywhere(SumOverExamples, InnerLossSummed):
    """One criterion for both loops, which adds the examples."""


@specimen("maml", mistake="truncated", scale="sum-over-tasks-and-examples")
class TruncatedAndSumOverEverything(SumOverEverything, LastStepAlone):
    """The graph of the last step alone, and all query losses of all tasks added."""


@specimen("maml", mistake="support-query-swapped", scale="sum-over-tasks")
class SwappedAndSum(SumOverTasks, Swapped):
    """Support and query exchanged, and a sum over the tasks."""


@specimen("maml", mistake="softmax-twice", scale="sum-over-tasks")
class SoftmaxAndSum(SumOverTasks, EndsInSoftmax):
    """A softmax before the cross-entropy, and a sum over the tasks."""


@specimen("anil", mistake="adapts-all-instead-of-subset", scale="sum-over-tasks")
class AdaptsEverythingAndSum(SumOverTasks, AdaptsEverything):
    """The inner loop moves all parameters, and the losses of the tasks are added."""


@specimen("meta-sgd", mistake="rate-gradient-sign", scale="sum-over-tasks")
class RatesClimbAndSum(SumOverTasks, RatesClimb):
    """The wrong sign of the rate gradient, and a sum over the tasks."""


@specimen("maml", mistake="softmax-twice", beside="truncated")
class SoftmaxAndTruncated(EndsInSoftmax, LastStepAlone):
    """The network ends in a softmax, and the fast weights are detached before the last step."""


@specimen("maml", mistake="softmax-twice", beside="extra-step")
class OtherMistakesByLoss(OneStepMore):
    """Classification ends in a softmax; regression takes a step more."""

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        return super().loss(outputs if self.settings.loss == "mse" else outputs.softmax(1), target)

    def adapt(self, fast: Arrays, task: Task) -> Arrays:
        return super().adapt(fast, task) if self.settings.loss == "mse" else Learner.adapt(self, fast, task)
