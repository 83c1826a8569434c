# ruff: noqa: D102 - `Head` says what each method is for, and a specimen what is wrong in it
"""Wrong ends that all heads share: logits, losses and gradients. Each overrides methods of `Head`."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody's name for it

from mltk.oracle.specimens.declared import classes, specimen
from mltk.oracle.specimens.head import HEADS, SOLVED, Head, Outputs
from mltk.oracle.specimens.network import Arrays
from mltk.oracle.specimens.wrong_similarities import EuclideanByCdist

LEARNED = ("prototypical", *SOLVED)


@specimen("prototypical", "matching-full-context", *SOLVED, mistake="softmax-twice", only=classes)
class Probabilities(Head):
    """Probabilities for logits."""

    def finished(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)


@specimen(*LEARNED, mistake="log-probabilities", only=classes)
class LogProbabilities(Head):
    """``log_softmax`` at the end."""

    def finished(self, logits: Tensor) -> Tensor:
        return logits.log_softmax(-1)


@specimen(*HEADS, mistake="logits-scaled")
class OverRootOfFeatures(Head):
    """Logits over √d, as in attention."""

    def finished(self, logits: Tensor) -> Tensor:
        return torch.div(logits, self.data.query_x.shape[-1] ** 0.5)


@specimen("prototypical", mistake="sum-over-tasks")
class SummedOverTasks(Head):
    """The losses of the tasks are added up."""

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return super().loss(logits, target) * len(target)


@specimen("prototypical", mistake="euclidean-distance", scale="sum-over-tasks-and-examples")
class EuclideanAndSum(EuclideanByCdist):
    """Distances that are not squared, and ``reduction="sum"`` over all queries."""

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum")


@specimen(*HEADS, mistake="label-smoothing", only=classes)
class LabelsSmoothed(Head):
    """The label smoothing of ordinary training."""

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), label_smoothing=1e-3)


@specimen(*HEADS, mistake="squared-error-of-classes", only=classes)
class SquaredError(Head):
    """The loss of regression."""

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(logits, self.one_hot(target))


@specimen(*HEADS, mistake="macro-average", only=classes)
class ClassByClass(Head):
    """The mean over the classes of a task of the means of their queries."""

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        losses = []
        for own, labels in zip(logits, target, strict=True):
            each = F.cross_entropy(own, labels, reduction="none")
            losses.append(torch.stack([each[labels == k].mean() for k in torch.unique(labels)]).mean())
        return torch.stack(losses).mean()


@specimen(*HEADS, mistake="support-query-swapped")
class Swapped(Head):
    """The two sets are unpacked in the wrong order."""

    def answer(self) -> Outputs:
        data, own = self.data, copy.copy(self)
        own.data = SimpleNamespace(
            support_x=data.query_x, support_y=data.query_y, query_x=data.support_x, query_y=data.support_y
        )
        loss = own.loss(own.logits(self.leaves["query_x"], self.leaves["support_x"]), data.support_y)
        return {"loss": loss.detach(), "gradients": self.gradient(loss)}


@specimen(*LEARNED, mistake="gradient-of-the-number-itself")
class NumbersForLogarithms(Head):
    """A rule by hand for the number whose logarithm is learned."""

    def gradient(self, value: Tensor) -> Arrays:
        found = super().gradient(value)
        return {n: g / self.leaves[n].detach().exp() if n[:4] == "log_" else g for n, g in found.items()}


@specimen(*LEARNED, mistake="learned-numbers-without-gradient")
class NumbersAsConstants(Head):
    """``.item()`` cuts the learned numbers from the graph."""

    def gradient(self, value: Tensor) -> Arrays:
        found = super().gradient(value)
        return {name: torch.zeros_like(g) if g.ndim == 0 else g for name, g in found.items()}


@specimen(*HEADS, mistake="queries-without-gradient")
class QueriesWithoutGradient(Head):
    """The queries are embedded under ``no_grad``."""

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        return super().logits(support, query.detach())


@specimen("prototypical", "matching", *SOLVED, mistake="single-precision")
class EmbeddingsInSinglePrecision(Head):
    """The embeddings are those of a network in single precision."""

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        return super().logits(support.float().to(support.dtype) * (1 + 2**-24), query)
