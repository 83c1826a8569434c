# ruff: noqa: D102 - `Learner` says what each method is for, and a specimen what is wrong in it
"""Wrong inner steps: their sizes, directions and parameters. Each overrides methods of `Learner`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mltk.oracle.specimens.declared import specimen
from mltk.oracle.specimens.learner import EXACT, RATES, SUBSETS, UNROLLED, Learner
from mltk.oracle.specimens.network import Arrays, Task
from mltk.oracle.specimens.wrong_orders import FirstOrderWithoutGraph


@specimen(*UNROLLED, "reptile", mistake="inner-loss-summed")
class InnerLossSummed(Learner):
    """The inner loss adds the examples up, so that its rate is that many times too large."""

    def support_loss(self, fast: Arrays, task: Task) -> Tensor:
        return super().support_loss(fast, task) * len(task.support_x)


@specimen("maml", mistake="inner-loss-summed")
class InnerLossByReduction(Learner):
    """``reduction="sum"`` in the inner loss alone, which for squared errors adds output features, too."""

    def support_loss(self, fast: Arrays, task: Task) -> Tensor:
        outputs = self.support_outputs(fast, task)
        value: Tensor = self.settings.loss_function()(outputs, task.support_y, reduction="sum")
        return value


@specimen(*UNROLLED, "reptile", mistake="inner-rate-factor")
class HalfInnerLoss(Learner):
    """The inner loss has a half in front, as squared errors often do."""

    def support_loss(self, fast: Arrays, task: Task) -> Tensor:
        return super().support_loss(fast, task) / 2


@specimen("maml", mistake="inner-rate-factor")
class RateOverTasks(Learner):
    """The inner loss is the mean over the tasks, which adapt together: each moves too little."""

    def support_loss(self, fast: Arrays, task: Task) -> Tensor:
        return super().support_loss(fast, task) / len(self.data.support_x)


@specimen("maml", mistake="inner-rate-factor")
class RateOverSteps(Learner):
    """The inner rate is divided by the number of steps."""

    def rate(self, name: str, k: int) -> Any:
        return super().rate(name, k) / self.steps


class Buffered(Learner):
    """Steps along a buffer of gradients."""

    kept: float

    def adapt(self, fast: Arrays, task: Task) -> Arrays:
        buffer = {name: torch.zeros_like(fast[name]) for name in self.names}
        for k in range(self.steps):
            slopes = self.slopes(self.support_loss(fast, self.batch(task, k)), fast, k)
            buffer = {name: self.kept * buffer[name] + g for name, g in slopes.items()}
            fast = {**fast, **{name: fast[name] - self.rate(name, k) * g for name, g in buffer.items()}}
        return fast


@specimen(*EXACT, "reptile", mistake="inner-gradients-accumulate")
class InnerGradientsAddedUp(Buffered):
    """Each inner gradient is added to those before."""

    kept = 1.0


@specimen(*UNROLLED, "reptile", mistake="momentum-in-inner-loop")
class InnerMomentum(Buffered):
    """The inner optimiser has a momentum of 0.9."""

    kept = 0.9


@specimen("maml", mistake="momentum-in-inner-loop", beside="first-order")
class MomentumFirstOrder(FirstOrderWithoutGraph, InnerMomentum):
    """The inner optimiser is SGD with a momentum of 0.9, on ``.data``."""


@specimen(*EXACT, "reptile", mistake="weight-decay-in-inner-loop")
class InnerWeightDecay(Learner):
    """The inner optimiser has a weight decay of 0.01."""

    decay = 0.01

    def slopes(self, value: Tensor, fast: Arrays, k: int) -> Arrays:
        return {name: g + self.decay * fast[name] for name, g in super().slopes(value, fast, k).items()}


@specimen("maml", mistake="weight-decay-in-inner-loop")
class WeightDecay(InnerWeightDecay):
    """The inner optimiser has the weight decay of the outer one."""

    decay = 5e-4


@specimen(*SUBSETS, *RATES, "reptile", mistake="gradient-clipping")
class InnerClipping(Learner):
    """The norm of the inner gradient is clipped, to 0.25."""

    largest = 0.25

    def slopes(self, value: Tensor, fast: Arrays, k: int) -> Arrays:
        found = super().slopes(value, fast, k)
        norm = torch.cat([g.flatten() for g in found.values()]).norm()
        return {name: g * (self.largest / (norm + 1e-6)).clamp(max=1.0) for name, g in found.items()}


@specimen("maml", mistake="gradient-clipping")
class ClippingByNorm(InnerClipping):
    """The norm of the inner gradient is clipped, to 1."""

    largest = 1.0


@specimen("maml", mistake="gradient-clipping")
class ClippingByValue(Learner):
    """Each number of the inner gradients is clipped to between -1 and 1."""

    def slopes(self, value: Tensor, fast: Arrays, k: int) -> Arrays:
        return {name: g.clamp(-1.0, 1.0) for name, g in super().slopes(value, fast, k).items()}


@specimen("maml", "fomaml", "anil", *RATES, mistake="adapted-subset-wrong")
class BiasesStay(Learner):
    """The inner loop moves what ends in ``weight`` alone."""

    def adapted(self) -> list[str]:
        return [name for name in super().adapted() if name.endswith("weight")]


@specimen("boil", mistake="adapted-subset-wrong")
class ForgetsTheFirstLayer(Learner):
    """BOIL that leaves the first layer as it is, too."""

    def adapted(self) -> list[str]:
        names = [name for name in super().adapted() if not name.startswith("0.")]
        if not names:
            raise NotImplementedError("only for networks of three layers or more")
        return names


@specimen(*SUBSETS, mistake="adapts-all-instead-of-subset")
class AdaptsEverything(Learner):
    """The inner loop moves all parameters."""

    def adapted(self) -> list[str]:
        return list(self.start)


@specimen(*SUBSETS, mistake="anil-boil-exchanged")
class Exchanged(Learner):
    """ANIL that freezes the head, or BOIL that freezes the body: the condition is the wrong way round."""

    def adapted(self) -> list[str]:
        return [name for name in self.start if name not in self.settings.adapted]


@specimen("reptile", mistake="reptile-batches")
class WholeSupportSet(Learner):
    """The batch size is ignored."""

    def batch(self, task: Task, k: int) -> Task:
        return task
