# ruff: noqa: D102 - `Head` says what each method is for, and a specimen what is wrong in it
"""Wrong similarities, prototypes and temperatures. Each overrides methods of `Head`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mltk.oracle.specimens.declared import cosines, specimen, squared_distances
from mltk.oracle.specimens.head import COSINES, DISTANCES, MATCHING, METRIC, REGULARISED, Head


@specimen(*COSINES, mistake="angle-instead-of-cosine", only=cosines)
class Angles(Head):
    """Minus the angle."""

    def cosines(self, a: Tensor, b: Tensor) -> Tensor:
        return -super().cosines(a, b).clamp(-1, 1).arccos()


@specimen("prototypical", "pairwise-cosine-similarity", mistake="cosine-distance", only=cosines)
class CosineDistance(Head):
    """One minus the cosine, as libraries of distances have it."""

    def cosines(self, a: Tensor, b: Tensor) -> Tensor:
        return 1 - super().cosines(a, b)


@specimen(*COSINES, mistake="cosine-without-normalisation", only=cosines)
class PlainProducts(Head):
    """Inner products alone."""

    def cosines(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b.mT


@specimen("matching", mistake="cosine-without-normalisation")
class OneSideNormalised(Head):
    """The support embeddings alone are normalised."""

    def cosines(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ self.unit(b).mT


@specimen(*COSINES, mistake="epsilon-in-length", only=cosines)
class EpsilonInLength(Head):
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


@specimen("prototypical", mistake="missing-negation", only=squared_distances)
class NotNegated(Head):
    """Logits that grow with the distance."""

    def compared(self, a: Tensor, b: Tensor) -> Tensor:
        return self.squares(a, b)


@specimen("pairwise-cosine-similarity", "pairwise-sqeuclidean", mistake="negated-similarity")
class Negated(Head):
    """Distances for similarities, similarities for distances."""

    def cosines(self, a: Tensor, b: Tensor) -> Tensor:
        return -super().cosines(a, b)

    def squares(self, a: Tensor, b: Tensor) -> Tensor:
        return -super().squares(a, b)


@specimen(*DISTANCES, mistake="euclidean-distance", only=squared_distances)
class EuclideanByCdist(Head):
    """`torch.cdist` as it is: its square is forgotten."""

    def squares(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a, b)


@specimen("prototypical", mistake="euclidean-distance", only=squared_distances)
class EuclideanByNorm(Head):
    """The norm of the difference."""

    def squares(self, a: Tensor, b: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(a[..., :, None, :] - b[..., None, :, :], dim=-1)
        return norm


@specimen(*DISTANCES, mistake="mean-over-dimensions", only=squared_distances)
class MeanSquares(Head):
    """Squared differences are averaged."""

    def squares(self, a: Tensor, b: Tensor) -> Tensor:
        return (a[..., :, None, :] - b[..., None, :, :]).square().mean(-1)


@specimen(*DISTANCES, mistake="distance-expanded-wrongly", only=squared_distances)
class ProductOnce(Head):
    """|a|² + |b|² - ab, without the two."""

    def squares(self, a: Tensor, b: Tensor) -> Tensor:
        return a.square().sum(-1)[..., None] + b.square().sum(-1)[..., None, :] - a @ b.mT


@specimen("prototypical", mistake="prototype-by-sum")
class SummedPrototypes(Head):
    """Prototypes are the sums of the classes."""

    def prototypes(self, support: Tensor) -> Tensor:
        sums = torch.zeros(len(support), self.settings.ways, support.shape[-1]).to(support)
        return sums.scatter_add(1, self.data.support_y[..., None].expand_as(support), support)


@specimen("prototypical", mistake="support-without-gradient", only=squared_distances)
class DetachedPrototypes(Head):
    """Prototypes are computed without gradients."""

    def prototypes(self, support: Tensor) -> Tensor:
        with torch.no_grad():
            return super().prototypes(support)


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
        both = torch.cat([support, self.leaves["query_x"]], 1)
        members = self.one_hot(torch.cat([self.data.support_y, self.data.query_y], 1))
        return torch.div(members.mT @ both, members.sum(1)[..., None])


@specimen("prototypical", *REGULARISED, mistake="normalised-first")
class UnitEmbeddings(Head):
    """``F.normalize`` at the end of the embedding."""

    def embedded(self, x: Tensor) -> Tensor:
        return self.unit(x)


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


@specimen(*METRIC, mistake="temperature-multiplied")
class ColderWhenWarmer(Head):
    """Scores are multiplied by the temperature."""

    def temperature(self) -> Any:
        return 1 / super().temperature()
