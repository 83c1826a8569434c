# ruff: noqa: D102 - `Head` says what each method is for, and a specimen what is wrong in it
"""Wrong metric heads, and wrong ends that all heads share. Each overrides methods of `Head`."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody's name for it

from mltk.oracle.specimens.declared import specimen
from mltk.oracle.specimens.head import COSINES, DISTANCES, HEADS, MATCHING, METRIC, SOLVED, Head, Outputs
from mltk.oracle.specimens.network import Arrays

FULL = ("matching-full-context",)
LEARNED = ("prototypical", *SOLVED)


class OfCosines(Head):
    """Skips prototypical networks with distances."""

    def __init__(self, params: Arrays, data: Any, settings: Any) -> None:
        super().__init__(params, data, settings)
        if settings.get("distance", "cosine") != "cosine":
            raise NotImplementedError("only for cosines")


@specimen(*COSINES, mistake="angle-instead-of-cosine")
class Angles(OfCosines):
    """Minus the angle."""

    def cosines(self, a: Tensor, b: Tensor) -> Tensor:
        return -super().cosines(a, b).clamp(-1, 1).arccos()


@specimen("prototypical", "pairwise-cosine-similarity", mistake="cosine-distance")
class CosineDistance(OfCosines):
    """One minus the cosine, as libraries of distances have it."""

    def cosines(self, a: Tensor, b: Tensor) -> Tensor:
        return 1 - super().cosines(a, b)


@specimen("matching-full-context", "pairwise-cosine-similarity", mistake="cosine-without-normalisation")
class PlainProducts(OfCosines):
    """Inner products alone."""

    def cosines(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b.mT


@specimen(*COSINES, mistake="epsilon-in-length")
class EpsilonInLength(OfCosines):
    """Lengths with 1e-8 on top."""

    def unit(self, x: Tensor) -> Tensor:
        return torch.div(x, torch.linalg.vector_norm(x, dim=-1, keepdim=True) + 1e-8)


@specimen(*MATCHING, mistake="missing-negation")
class DistancesToTheSoftmax(Head):
    """Attention falls on what is far away."""

    def cosines(self, a: Tensor, b: Tensor) -> Tensor:
        return -super().cosines(a, b)


@specimen(*MATCHING, mistake="wrong-similarity")
class SquaresForCosines(Head):
    """Minus squared distances where cosines are asked for."""

    def cosines(self, a: Tensor, b: Tensor) -> Tensor:
        return -self.squares(a, b)


@specimen("prototypical", mistake="wrong-similarity")
class AlwaysCosines(Head):
    """The setting of the distance is ignored."""

    def compared(self, a: Tensor, b: Tensor) -> Tensor:
        return self.cosines(a, b)


@specimen("pairwise-cosine-similarity", "pairwise-sqeuclidean", mistake="negated-similarity")
class Negated(Head):
    """Distances for similarities, similarities for distances."""

    def cosines(self, a: Tensor, b: Tensor) -> Tensor:
        return -super().cosines(a, b)

    def squares(self, a: Tensor, b: Tensor) -> Tensor:
        return -super().squares(a, b)


class OfDistances(Head):
    """Skips prototypical networks with cosines."""

    def __init__(self, params: Arrays, data: Any, settings: Any) -> None:
        super().__init__(params, data, settings)
        if settings.get("distance", "sqeuclidean") != "sqeuclidean":
            raise NotImplementedError("only for squared distances")


@specimen("pairwise-sqeuclidean", mistake="euclidean-distance")
class NotSquared(OfDistances):
    """`torch.cdist` as it is."""

    def squares(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a, b)


@specimen(*DISTANCES, mistake="mean-over-dimensions")
class MeanSquares(OfDistances):
    """Squared differences are averaged."""

    def squares(self, a: Tensor, b: Tensor) -> Tensor:
        return (a[..., :, None, :] - b[..., None, :, :]).square().mean(-1)


@specimen(*DISTANCES, mistake="distance-expanded-wrongly")
class ProductOnce(OfDistances):
    """|a|² + |b|² - ab, without the two."""

    def squares(self, a: Tensor, b: Tensor) -> Tensor:
        lengths = a.square().sum(-1)[..., :, None] + b.square().sum(-1)[..., None, :]
        return lengths - a @ b.mT


@specimen("prototypical", mistake="labels-ignored")
class ClassesByPlace(Head):
    """``support.view(ways, shots, -1).mean(1)``, whatever the labels."""

    def prototypes(self, support: Tensor) -> Tensor:
        if support.shape[1] % self.settings.ways:
            raise NotImplementedError("only for as many examples of each class")
        tasks, _, features = support.shape
        return support.reshape(tasks, self.settings.ways, -1, features).mean(2)


@specimen("prototypical", mistake="queries-in-prototypes")
class QueriesLeak(Head):
    """Prototypes of both sets."""

    def prototypes(self, support: Tensor) -> Tensor:
        members = self.one_hot(torch.cat([self.data.support_y, self.data.query_y], 1))
        means: Tensor = (members.mT @ torch.cat([support, self.leaves["query_x"]], 1)) / members.sum(1)[
            ..., None
        ]
        return means


@specimen(*MATCHING, mistake="support-without-gradient")
class SupportDetached(Head):
    """What the queries are compared with is computed under ``no_grad``."""

    def gradient(self, value: Tensor) -> Arrays:
        found = super().gradient(value)
        return {**found, "support_x": torch.zeros_like(found["support_x"])}


@specimen("prototypical", mistake="normalised-first")
class UnitEmbeddings(Head):
    """``F.normalize`` at the end of the embedding."""

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        return super().logits(self.unit(support), self.unit(query))


@specimen(*METRIC, mistake="temperature-left-out")
class NoTemperature(Head):
    """The setting never arrives."""

    def temperature(self) -> Any:
        return 1.0


@specimen(*METRIC, mistake="temperature-power")
class TemperatureSquared(Head):
    """The temperature is divided by twice."""

    def temperature(self) -> Any:
        return super().temperature() ** 2


@specimen(*METRIC, mistake="logarithm-of-temperature")
class TemperatureExponentiated(Head):
    """The temperature is taken for its logarithm."""

    def temperature(self) -> Any:
        return torch.as_tensor(super().temperature(), dtype=torch.float64).exp()


@specimen("matching-full-context", mistake="temperature-multiplied")
class ColderWhenWarmer(Head):
    """Scores are multiplied by the temperature."""

    def temperature(self) -> Any:
        return 1 / super().temperature()


@specimen(*MATCHING, mistake="attention-axis")
class AttentionOverQueries(Head):
    """``softmax(dim=1)``."""

    def by_class(self, scores: Tensor, members: Tensor) -> Tensor:
        return (scores.softmax(1) @ members).log()


@specimen(*MATCHING, mistake="attention-not-added-by-class")
class MeanAttention(Head):
    """The mean of the attention to the examples of a class."""

    def by_class(self, scores: Tensor, members: Tensor) -> Tensor:
        return (scores.softmax(-1) @ members / members.sum(1)[:, None]).log()


@specimen(*MATCHING, mistake="attention-not-normalised")
class SumsOfExponentials(Head):
    """No division by the sum over all examples."""

    def by_class(self, scores: Tensor, members: Tensor) -> Tensor:
        return (scores.exp() @ members).log()


@specimen(*MATCHING, mistake="epsilon-in-logarithm")
class EpsilonInLogarithm(Head):
    """``(attention + 1e-6).log()``."""

    def by_class(self, scores: Tensor, members: Tensor) -> Tensor:
        return (scores.softmax(-1) @ members + 1e-6).log()


@specimen(*FULL, mistake="gate-order")
class GatesOfAnotherLibrary(Head):
    """Input, forget, output, candidate."""

    def gates(self, z: Tensor) -> tuple[Tensor, ...]:
        i, f, o, g = super().gates(z)
        return i, f, g, o


@specimen(*FULL, mistake="one-bias")
class OneBias(Head):
    """A cell with one bias."""

    def second_bias(self, p: Arrays) -> Tensor | None:
        return None


@specimen(*FULL, mistake="processing-steps")
class OneStepTooMany(Head):
    """A processing step before the loop."""

    def attend(self, query: Tensor, context: Tensor, support: Tensor) -> Tensor:
        output, state = self.process(query, torch.zeros_like(query), torch.zeros_like(query), context)
        for _ in range(self.settings.processing_steps):
            output, state = self.process(query, output, state, context)
        return output + query


@specimen(*FULL, mistake="reading-direction")
class NotTurnedRound(Head):
    """The outputs from the end stand in the order of reading."""

    def read(self, support: Tensor) -> Tensor:
        return self.lstm("forward", support) + self.lstm("backward", support.flip(1)) + support


@specimen(*FULL, mistake="skip-connection-missing")
class NoSkip(Head):
    """What the LSTMs make of the support set, alone."""

    def read(self, support: Tensor) -> Tensor:
        return super().read(support) - support


@specimen(*FULL, mistake="readout-wrong")
class ScaledReadout(Head):
    """Inner products over √d, as in transformers."""

    def readout(self, hidden: Tensor, memory: Tensor) -> Tensor:
        scores = hidden @ memory.mT / memory.shape[-1] ** 0.5
        return torch.matmul(scores.softmax(-1), memory)


@specimen(*FULL, mistake="state-is-forgotten")
class StateForgotten(Head):
    """``LSTMCell(x, h)`` without the state."""

    def process(self, query: Tensor, output: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        return super().process(query, output, torch.zeros_like(state), memory)


class OfClasses(Head):
    """Skips regression."""

    def __init__(self, params: Arrays, data: Any, settings: Any) -> None:
        super().__init__(params, data, settings)
        if settings.ways is None:
            raise NotImplementedError("only for classification")


@specimen("matching-full-context", "logistic", mistake="softmax-twice")
class Probabilities(OfClasses):
    """Probabilities for logits."""

    def finished(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1)


@specimen(*LEARNED, mistake="log-probabilities")
class LogProbabilities(OfClasses):
    """``log_softmax`` at the end."""

    def finished(self, logits: Tensor) -> Tensor:
        return logits.log_softmax(-1)


@specimen(*HEADS, mistake="logits-scaled")
class OverRootOfFeatures(Head):
    """Logits over √d, as in attention."""

    def finished(self, logits: Tensor) -> Tensor:
        return torch.div(logits, self.data.query_x.shape[-1] ** 0.5)


@specimen(*HEADS, mistake="label-smoothing")
class LabelsSmoothed(OfClasses):
    """The label smoothing of ordinary training."""

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), label_smoothing=1e-3)


@specimen(*HEADS, mistake="squared-error-of-classes")
class SquaredError(OfClasses):
    """The loss of regression."""

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(logits, self.one_hot(target))


@specimen(*HEADS, mistake="macro-average")
class ClassByClass(OfClasses):
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
