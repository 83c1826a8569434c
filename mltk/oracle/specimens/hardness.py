# ruff: noqa: D102 - `Hardness` says what each method is for, and a specimen what is wrong in it
"""The hardness of a task in plain Torch, right and wrong: a class whose methods wrong specimens override."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody's name for it

from mltk.oracle.specimens.declared import Implementation, specimen
from mltk.oracle.specimens.network import Arrays, gradients, learnable


@specimen("hardness")
class Hardness(Implementation):
    """By the log-odds of a softmax of cosines."""

    def __init__(self, params: Arrays, data: Any, settings: Any) -> None:
        super().__init__(params, data, settings)
        self.leaves = learnable({name: getattr(data, name) for name in ("support_x", "query_x")})

    def answer(self) -> dict[str, Any]:
        value = self.averaged(self.log_odds(self.logits(), self.data.query_y))
        return {"hardness": value.detach(), "gradients": gradients(value.sum(), self.leaves)}

    def logits(self) -> Tensor:
        """Of the queries, ``(T, M, ways)``."""
        support, query = self.rectified()
        members = F.one_hot(self.data.support_y, self.settings.ways).to(support.dtype)
        weights = self.weights(support, members)
        return self.tempered(self.unit(query) @ weights.mT)

    def rectified(self) -> tuple[Tensor, Tensor]:
        """Support and query features."""
        query = self.leaves["query_x"]
        return self.leaves["support_x"].relu(), query.relu() if self.settings.relu_queries else query

    def weights(self, support: Tensor, members: Tensor) -> Tensor:
        """Of the classes."""
        return self.unit((members.mT @ support) / members.sum(1)[..., None])

    def unit(self, x: Tensor) -> Tensor:
        """Rows of length 1; a row of zeros stays."""
        squared = x.square().sum(-1, keepdim=True)
        return torch.where(squared > 0, x / torch.where(squared > 0, squared, 1).sqrt(), 0)

    def tempered(self, cosines: Tensor) -> Tensor:
        """Over the temperature."""
        return torch.div(cosines, self.settings.temperature)

    def log_odds(self, z: Tensor, labels: Tensor) -> Tensor:
        """Against the right class."""
        right = F.one_hot(labels, z.shape[-1]) > 0
        return z.masked_fill(right, -torch.inf).logsumexp(-1) - z[right].reshape(labels.shape)

    def averaged(self, of_queries: Tensor) -> Tensor:
        """Over the queries."""
        return of_queries.mean(1)

    def probabilities(self, z: Tensor, labels: Tensor) -> Tensor:
        """Of the right class."""
        return z.softmax(-1).gather(-1, labels[..., None])[..., 0]


@specimen("hardness", mistake="likelihood-for-odds")
class LossForHardness(Hardness):
    """The cross-entropy."""

    def log_odds(self, z: Tensor, labels: Tensor) -> Tensor:
        return -self.probabilities(z, labels).log()


@specimen("hardness", mistake="likelihood-for-odds")
class ErrorsForHardness(Hardness):
    """The probability of an error."""

    def log_odds(self, z: Tensor, labels: Tensor) -> Tensor:
        return 1 - self.probabilities(z, labels)


@specimen("hardness", mistake="logarithm-of-odds")
class PlainOdds(Hardness):
    """Without the logarithm."""

    def log_odds(self, z: Tensor, labels: Tensor) -> Tensor:
        return super().log_odds(z, labels).exp()


@specimen("hardness", mistake="odds-for-the-right-class")
class LogitOfP(Hardness):
    """`torch.logit` of the right class's probability."""

    def log_odds(self, z: Tensor, labels: Tensor) -> Tensor:
        return self.probabilities(z, labels).logit()


@specimen("hardness", mistake="sum-over-queries")
class SummedQueries(Hardness):
    """Added up."""

    def averaged(self, of_queries: Tensor) -> Tensor:
        return of_queries.sum(1)


@specimen("hardness", mistake="hardness-of-no-information-subtracted")
class MeanOverOthers(Hardness):
    """The mean over the other classes."""

    def log_odds(self, z: Tensor, labels: Tensor) -> Tensor:
        others = torch.tensor(z.shape[-1] - 1.0, dtype=z.dtype)
        return super().log_odds(z, labels) - others.log()


@specimen("hardness", mistake="rectified-otherwise")
class PlainQueries(Hardness):
    """Queries are never rectified, as in popular code."""

    def rectified(self) -> tuple[Tensor, Tensor]:
        return self.leaves["support_x"].relu(), self.leaves["query_x"]


@specimen("hardness", mistake="rectified-otherwise")
class RectifiedPrototypes(Hardness):
    """The rectifier comes after the mean."""

    def rectified(self) -> tuple[Tensor, Tensor]:
        return self.leaves["support_x"], super().rectified()[1]

    def weights(self, support: Tensor, members: Tensor) -> Tensor:
        return self.unit((members.mT @ support).relu())


@specimen("hardness", mistake="cosine-without-normalisation")
class PlainWeights(Hardness):
    """Class means of any length."""

    def weights(self, support: Tensor, members: Tensor) -> Tensor:
        return (members.mT @ support) / members.sum(1)[..., None]


@specimen("hardness", mistake="normalised-first")
class NormalisedFeatures(Hardness):
    """Features of length one are averaged."""

    def rectified(self) -> tuple[Tensor, Tensor]:
        support, query = super().rectified()
        return self.unit(support), query


@specimen("hardness", mistake="temperature-multiplied")
class Heated(Hardness):
    """Times the temperature."""

    def tempered(self, cosines: Tensor) -> Tensor:
        return torch.mul(cosines, self.settings.temperature)


@specimen("hardness", mistake="temperature-left-out")
class NoTemperature(Hardness):
    """Plain cosines."""

    def tempered(self, cosines: Tensor) -> Tensor:
        return cosines
