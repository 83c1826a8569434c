# ruff: noqa: D102 - `Learner` says what each method is for, and a specimen what is wrong in it
"""Wrong passes through the network and wrong losses. Each overrides methods of `Learner`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody's name for it

from mltk.oracle.specimens.declared import classes, specimen
from mltk.oracle.specimens.learner import EXACT, UNROLLED, Learner
from mltk.oracle.specimens.network import Arrays, Task

NORMALISED = ("maml", "fomaml", "anil", "boil", "meta-sgd", "reptile")


@specimen(*EXACT, "reptile", mistake="softmax-twice", only=classes)
class EndsInSoftmax(Learner):
    """The network ends in a softmax, and the cross-entropy has one."""

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(outputs.softmax(1), target)


@specimen(*UNROLLED, "reptile", mistake="label-smoothing", only=classes)
class LabelsSmoothed(Learner):
    """The loss has the label smoothing of ordinary training, 0.1."""

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(outputs, target, label_smoothing=0.1)


@specimen("maml", mistake="label-smoothing")
class LabelSmoothingOutside(Learner):
    """Label smoothing in the query loss alone; regression is right."""

    def query_loss(self, fast: Arrays, task: Task) -> Tensor:
        if self.settings.loss == "mse":
            return super().query_loss(fast, task)
        return F.cross_entropy(self.query_outputs(fast, task), task.query_y, label_smoothing=0.1)


@specimen(*NORMALISED, mistake="batch-norm-evaluation-mode")
class EvaluationMode(Learner):
    """Batch norms in evaluation mode, whose buffers never saw data."""

    def statistics(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = super().statistics(seen)
        return torch.zeros_like(mean), torch.ones_like(variance)


@specimen(*NORMALISED, mistake="batch-norm-running-statistics")
class RunningAverages(Learner):
    """Support passes in training mode collect running averages, which normalise the queries."""

    buffers: dict[int, tuple[Tensor, Tensor]]
    training, place = True, 0

    def adapt(self, fast: Arrays, task: Task) -> Arrays:
        self.buffers, self.training = {}, True
        return super().adapt(fast, task)

    def query_outputs(self, fast: Arrays, task: Task) -> Tensor:
        self.training = False
        return self.network(fast, task.query_x)

    def network(self, fast: Arrays, x: Tensor, support_rows: int | None = None) -> Tensor:
        self.place = 0
        return super().network(fast, x, support_rows)

    def normalise(self, layer: Mapping[str, Any], p: Arrays, x: Tensor, rows: int | None) -> Tensor:
        self.place += 1
        fresh = torch.zeros_like(p["weight"]).detach(), torch.ones_like(p["weight"]).detach()
        average, variance = self.buffers.setdefault(self.place, fresh)
        return F.batch_norm(x, average, variance, p["weight"], p["bias"], self.training, eps=layer["eps"])


@specimen(*NORMALISED, mistake="batch-norm-query-statistics")
class OwnStatistics(Learner):
    """A network in training mode, where the support set should normalise the queries."""

    def query_outputs(self, fast: Arrays, task: Task) -> Tensor:
        return self.network(fast, task.query_x)


@specimen(*NORMALISED, mistake="batch-norm-support-statistics")
class SupportStatistics(Learner):
    """The statistics of the support set are kept for the query set."""

    def query_outputs(self, fast: Arrays, task: Task) -> Tensor:
        rows = len(task.support_x)
        return self.network(fast, torch.cat([task.support_x, task.query_x]), rows)[rows:]

    def normalise(self, layer: Mapping[str, Any], p: Arrays, x: Tensor, rows: int | None) -> Tensor:
        return super().normalise({**layer, "statistics": "support"}, p, x, rows)


@specimen(*NORMALISED, mistake="batch-norm-joint-statistics")
class BothSetsInOnePass(Learner):
    """Support and query set go through the network together, and are taken apart behind it."""

    def support_outputs(self, fast: Arrays, task: Task) -> Tensor:
        return self.network(fast, torch.cat([task.support_x, task.query_x]))[: len(task.support_x)]

    def query_outputs(self, fast: Arrays, task: Task) -> Tensor:
        return self.network(fast, torch.cat([task.support_x, task.query_x]))[len(task.support_x) :]


@specimen(*NORMALISED, mistake="batch-norm-unbiased-variance")
class UnbiasedVariance(Learner):
    """``x.var()`` divides by one less than the number of examples."""

    def statistics(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        mean, variance = super().statistics(seen)
        count = seen.numel() // mean.numel()
        return mean, variance * count / max(count - 1, 1)


@specimen(*NORMALISED, mistake="batch-norm-epsilon")
class EpsilonOfAnotherLibrary(Learner):
    """The epsilon is 1e-3."""

    def deviation(self, variance: Tensor, eps: float) -> Tensor:
        return super().deviation(variance, 1e-3)


@specimen("maml", mistake="batch-norm-epsilon")
class EpsilonBesideTheRoot(Learner):
    """The epsilon is added to the standard deviation."""

    def deviation(self, variance: Tensor, eps: float) -> Tensor:
        return variance.sqrt() + eps


@specimen(*NORMALISED, mistake="batch-norm-statistics-detached")
class DetachedStatistics(Learner):
    """Mean and variance are taken of ``x.detach()``."""

    def statistics(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        return super().statistics(seen.detach())


@specimen("maml", mistake="batch-norm-statistics-detached")
class ConstantSupportStatistics(Learner):
    """The support set normalises the queries without a gradient through its mean and variance."""

    def normalise(self, layer: Mapping[str, Any], p: Arrays, x: Tensor, rows: int | None) -> Tensor:
        if rows is not None:
            x = torch.cat([x[:rows].detach(), x[rows:]])
        return super().normalise(layer, p, x, rows)


@specimen(*UNROLLED, "reptile", mistake="macro-average", only=classes)
class ClassByClass(Learner):
    """The losses of the classes are averaged, each the mean over its examples."""

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        each = F.cross_entropy(outputs, target, reduction="none")
        return torch.stack([each[target == k].mean() for k in torch.unique(target)]).mean()
