# ruff: noqa: D102 - `Learner` says what each method is for, and a specimen what is wrong in it
"""Two mistakes at once, mistakes in some cases alone, single precision, and scale errors of all kinds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody's name for it

from mltk.oracle.specimens.declared import specimen
from mltk.oracle.specimens.learner import Learner
from mltk.oracle.specimens.network import Arrays, Result, Task
from mltk.oracle.specimens.wrong_loops import Buffered, InnerGradientsAreConstants, OneStepMore


@specimen("maml", "meta-sgd", mistake="extra-step", beside="first-order")
class OneStepMoreFirstOrder(InnerGradientsAreConstants, OneStepMore):
    """Another step, and constants for inner gradients."""


@specimen("maml", mistake="momentum-in-inner-loop", beside="first-order")
class MomentumFirstOrder(InnerGradientsAreConstants, Buffered):
    """The inner optimiser is SGD with a momentum of 0.9, on ``.data``."""

    kept = 0.9


@specimen("maml", mistake="extra-step", beside="first-order", scale="sum-over-tasks")
class OneStepMoreFirstOrderSum(InnerGradientsAreConstants, OneStepMore):
    """Another step, constants for inner gradients, and losses that are added up."""

    def over_tasks(self, losses: list[Tensor]) -> Tensor:
        return torch.stack(losses).sum()


@specimen("maml", mistake="softmax-twice", beside="truncated")
class SoftmaxAndTruncated(Learner):
    """The network ends in a softmax, and the fast weights are detached before the last step."""

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        if self.settings.loss == "mse":
            raise NotImplementedError("only for classification")
        return F.cross_entropy(outputs.softmax(1), target)

    def slopes(self, value: Tensor, fast: Arrays, k: int) -> Arrays:
        found = super().slopes(value, fast, k)
        return found if k == self.steps - 1 else {name: g.detach() for name, g in found.items()}


@specimen("maml", mistake="first-order")
class FirstOrderBeyondFourSteps(Learner):
    """The graph is dropped when there are many steps, to save memory."""

    def slopes(self, value: Tensor, fast: Arrays, k: int) -> Arrays:
        found = super().slopes(value, fast, k)
        return {name: g.detach() for name, g in found.items()} if self.steps > 4 else found


@specimen("maml", mistake="softmax-twice", beside="extra-step")
class OtherMistakesByLoss(OneStepMore):
    """Classification ends in a softmax; regression takes a step more."""

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        return super().loss(outputs if self.settings.loss == "mse" else outputs.softmax(1), target)

    def adapt(self, fast: Arrays, task: Task) -> Arrays:
        return super().adapt(fast, task) if self.settings.loss == "mse" else Learner.adapt(self, fast, task)


@specimen("maml", "anil", "meta-sgd", mistake="single-precision")
class InputsInSinglePrecision(Learner):
    """The inputs go through ``.float()`` on their way."""

    def network(self, fast: Arrays, x: Tensor, support_rows: int | None = None) -> Tensor:
        return super().network(fast, x.float().to(x.dtype) * (1 + 2**-24), support_rows)


class Scaled(Learner):
    """Outputs that are off by a factor."""

    def factor(self) -> Any:
        """That factor."""

    def answer(self) -> Result:
        loss, found = super().answer()
        return self.factor() * loss, {name: self.factor() * g for name, g in found.items()}


@specimen("maml", mistake="sum-over-output-features")
class SquaredNorm(Scaled):
    """The squared norm of the difference for the mean of its squares."""

    def factor(self) -> Any:
        if self.settings.loss != "mse":
            raise NotImplementedError("only for regression")
        return self.data.query_y.shape[-1]


@specimen("maml", "fomaml", mistake="sum-over-classes")
class LossOfEachClass(Scaled):
    """The loss is multiplied by the number of classes."""

    def factor(self) -> Any:
        if self.settings.ways is None:
            raise NotImplementedError("only for classification")
        return self.settings.ways


@specimen("maml", mistake="divided-by-tasks")
class MeanDividedOnceMore(Scaled):
    """The loss of each task is divided by their number, and their mean taken."""

    def factor(self) -> Any:
        return 1 / len(self.data.query_x)


@specimen("maml", mistake="divided-by-examples")
class MeanDividedByBatch(Scaled):
    """A mean loss, divided by the batch size."""

    def factor(self) -> Any:
        return 1 / self.data.query_x.shape[1]


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
