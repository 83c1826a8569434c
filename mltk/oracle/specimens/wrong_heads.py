"""Wrong heads, as users write them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody's name for it

from mltk.oracle.specimens.declared import UNKNOWN, specimen
from mltk.oracle.specimens.network import Arrays, gradients
from mltk.oracle.specimens.right_heads import (
    Outputs,
    calibrated,
    judged,
    lambda_of,
    leaves_of,
    one_hot,
    prototypes_of,
    targets_of,
    temperature_of,
    unit,
)


def _squared(settings: Any) -> None:
    if settings.distance != "sqeuclidean":
        raise NotImplementedError("only for squared distances")


def _cosine(settings: Any) -> None:
    if settings.distance != "cosine":
        raise NotImplementedError("only for cosines")


@specimen("prototypical", mistake="euclidean-distance")
def euclidean_by_cdist(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Prototypical networks that forget to square `torch.cdist`."""
    _squared(settings)
    leaves = leaves_of(params, data)
    distances = torch.cdist(leaves["query_x"], prototypes_of(leaves, data, settings))
    return judged(-distances / temperature_of(leaves, settings), leaves, data, settings)


@specimen("prototypical", mistake="euclidean-distance")
def euclidean_by_norm(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Prototypical networks with the norm of the difference."""
    _squared(settings)
    leaves = leaves_of(params, data)
    difference = leaves["query_x"][:, :, None] - prototypes_of(leaves, data, settings)[:, None]
    scores = -torch.linalg.vector_norm(difference, dim=-1) / temperature_of(leaves, settings)
    return judged(scores, leaves, data, settings)


@specimen("prototypical", mistake="missing-negation")
def not_negated(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Prototypical networks whose logits grow with the distance."""
    _squared(settings)
    leaves = leaves_of(params, data)
    difference = leaves["query_x"][:, :, None] - prototypes_of(leaves, data, settings)[:, None]
    distances = difference.square().sum(-1)
    return judged(distances / temperature_of(leaves, settings), leaves, data, settings)


@specimen("prototypical", mistake="prototype-by-sum")
def summed_prototypes(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Prototypical networks whose prototypes are the sums of the classes."""
    leaves = leaves_of(params, data)
    prototypes = torch.zeros(len(data.support_x), settings.ways, data.support_x.shape[-1]).to(data.support_x)
    index = data.support_y[..., None].expand_as(data.support_x)
    prototypes = prototypes.scatter_add(1, index, leaves["support_x"])
    if settings.distance == "cosine":
        scores = unit(leaves["query_x"]) @ unit(prototypes).mT
    else:
        scores = -(leaves["query_x"][:, :, None] - prototypes[:, None]).square().sum(-1)
    return judged(scores / temperature_of(leaves, settings), leaves, data, settings)


@specimen("prototypical", mistake="temperature-multiplied")
def colder_when_warmer(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Prototypical networks that multiply by the temperature."""
    leaves = leaves_of(params, data)
    prototypes = prototypes_of(leaves, data, settings)
    if settings.distance == "cosine":
        scores = unit(leaves["query_x"]) @ unit(prototypes).mT
    else:
        scores = -(leaves["query_x"][:, :, None] - prototypes[:, None]).square().sum(-1)
    return judged(scores * temperature_of(leaves, settings), leaves, data, settings)


@specimen("prototypical", mistake="softmax-twice")
def probabilities_as_logits(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Prototypical networks that return a softmax, which the cross-entropy takes for logits."""
    leaves = leaves_of(params, data)
    prototypes = prototypes_of(leaves, data, settings)
    if settings.distance == "cosine":
        scores = unit(leaves["query_x"]) @ unit(prototypes).mT
    else:
        scores = -(leaves["query_x"][:, :, None] - prototypes[:, None]).square().sum(-1)
    return judged((scores / temperature_of(leaves, settings)).softmax(-1), leaves, data, settings)


@specimen("prototypical", mistake="cosine-without-normalisation")
def dot_products_with_prototypes(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Prototypical networks with "cosines" of vectors that were never normalised."""
    _cosine(settings)
    leaves = leaves_of(params, data)
    scores = leaves["query_x"] @ prototypes_of(leaves, data, settings).mT
    return judged(scores / temperature_of(leaves, settings), leaves, data, settings)


@specimen("prototypical", mistake="euclidean-distance", scale="sum-over-tasks-and-examples")
def euclidean_and_sum(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Prototypical networks with distances that are not squared, and ``reduction="sum"`` over all queries."""
    _squared(settings)
    leaves = leaves_of(params, data)
    distances = torch.cdist(leaves["query_x"], prototypes_of(leaves, data, settings))
    scores = -distances / temperature_of(leaves, settings)
    loss = F.cross_entropy(scores.flatten(0, 1), data.query_y.flatten(), reduction="sum")
    return {"logits": scores.detach(), "loss": loss.detach(), "gradients": gradients(loss, leaves)}


@specimen("prototypical", mistake="sum-over-tasks")
def summed_over_tasks(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Prototypical networks with the right logits, and a sum over the tasks."""
    leaves = leaves_of(params, data)
    prototypes = prototypes_of(leaves, data, settings)
    if settings.distance == "cosine":
        scores = unit(leaves["query_x"]) @ unit(prototypes).mT
    else:
        scores = -(leaves["query_x"][:, :, None] - prototypes[:, None]).square().sum(-1)
    scores = scores / temperature_of(leaves, settings)
    losses = [F.cross_entropy(logits, y) for logits, y in zip(scores, data.query_y, strict=True)]
    loss = torch.stack(losses).sum()
    return {"logits": scores.detach(), "loss": loss.detach(), "gradients": gradients(loss, leaves)}


@specimen("prototypical", mistake="support-without-gradient")
def detached_prototypes(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Prototypical networks whose prototypes are computed without gradients."""
    _squared(settings)
    leaves = leaves_of(params, data)
    with torch.no_grad():
        prototypes = prototypes_of(leaves, data, settings)
    scores = -(leaves["query_x"][:, :, None] - prototypes[:, None]).square().sum(-1)
    return judged(scores / temperature_of(leaves, settings), leaves, data, settings)


def _attend(scores: Tensor, data: Any, settings: Any) -> Tensor:
    """The attention that falls on each class."""
    attention = scores.softmax(-1)
    return attention @ one_hot(data.support_y, settings.ways, attention)


@specimen("matching", mistake="cosine-without-normalisation")
def dot_products(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Matching networks that attend by dot products."""
    leaves = leaves_of(params, data)
    scores = leaves["query_x"] @ leaves["support_x"].mT / settings.temperature
    return judged(_attend(scores, data, settings).log(), leaves, data, settings)


@specimen("matching", mistake="cosine-without-normalisation")
def one_side_normalised(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Matching networks that normalise the support embeddings alone."""
    leaves = leaves_of(params, data)
    scores = leaves["query_x"] @ unit(leaves["support_x"]).mT / settings.temperature
    return judged(_attend(scores, data, settings).log(), leaves, data, settings)


@specimen("matching", mistake="temperature-multiplied")
def attention_times_temperature(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Matching networks that multiply by the temperature."""
    leaves = leaves_of(params, data)
    scores = unit(leaves["query_x"]) @ unit(leaves["support_x"]).mT * settings.temperature
    return judged(_attend(scores, data, settings).log(), leaves, data, settings)


@specimen("matching", mistake="softmax-twice")
def attention_as_logits(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Matching networks that hand probabilities to the cross-entropy, which wants logits."""
    leaves = leaves_of(params, data)
    scores = unit(leaves["query_x"]) @ unit(leaves["support_x"]).mT / settings.temperature
    return judged(_attend(scores, data, settings), leaves, data, settings)


@specimen("matching", mistake=UNKNOWN)
def mean_cosine_of_a_class(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Matching networks that take the mean cosine of each class for its logit."""
    leaves = leaves_of(params, data)
    cosines = unit(leaves["query_x"]) @ unit(leaves["support_x"]).mT / settings.temperature
    members = one_hot(data.support_y, settings.ways, cosines)
    return judged((cosines @ members) / members.sum(1)[:, None], leaves, data, settings)


def _ridge(x: Tensor, y: Tensor, query: Tensor, penalty: Tensor, *, intercept: bool) -> Tensor:
    """Predictions of ridge regression whose matrix ``penalty`` is added to the Gram matrix."""
    height = torch.zeros_like(y[:, :1])
    if intercept:
        middle, height = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
        x, query, y = x - middle, query - middle, y - height
    weight: Tensor = torch.linalg.solve(x.mT @ x + penalty, x.mT @ y)
    return query @ weight + height


@specimen("ridge", mistake="regulariser-times-examples")
def penalty_times_examples(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Ridge regression on the mean squared error: its λ is that of the sum times the number of examples."""
    leaves = leaves_of(params, data)
    x = leaves["support_x"]
    y = targets_of(data, settings, x)
    eye = torch.eye(x.shape[-1], dtype=x.dtype)
    penalty = x.shape[1] * lambda_of(leaves, settings, x) * eye
    outputs = _ridge(x, y, leaves["query_x"], penalty, intercept=bool(settings.get("intercept")))
    return judged(calibrated(outputs, leaves, settings), leaves, data, settings)


@specimen("ridge", mistake="bias-penalised")
def column_of_ones(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Ridge regression with the intercept as one more weight, which λ pulls to zero, too."""
    if not settings.get("intercept"):
        raise NotImplementedError("only with an intercept")
    leaves = leaves_of(params, data)
    x, query = (F.pad(leaves[name], (0, 1), value=1.0) for name in ("support_x", "query_x"))
    penalty = lambda_of(leaves, settings, x) * torch.eye(x.shape[-1], dtype=x.dtype)
    outputs = _ridge(x, targets_of(data, settings, x), query, penalty, intercept=False)
    return judged(calibrated(outputs, leaves, settings), leaves, data, settings)


@specimen("ridge", mistake="lambda-on-wrong-matrix")
def lambda_on_the_kernel(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Ridge regression after Woodbury with λ on the kernel and not on the identity."""
    leaves = leaves_of(params, data)
    x, query = leaves["support_x"], leaves["query_x"]
    y = targets_of(data, settings, x)
    height = torch.zeros_like(y[:, :1])
    if settings.get("intercept"):
        middle, height = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
        x, query, y = x - middle, query - middle, y - height
    matrix = lambda_of(leaves, settings, x) * (x @ x.mT) + torch.eye(x.shape[1], dtype=x.dtype)
    outputs = query @ x.mT @ torch.linalg.solve(matrix, y) + height
    return judged(calibrated(outputs, leaves, settings), leaves, data, settings)


@specimen("ridge", mistake="softmax-twice")
def softmax_of_ridge(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Ridge regression whose calibrated outputs go through a softmax before the cross-entropy."""
    if settings.ways is None:
        raise NotImplementedError("only for classification")
    leaves = leaves_of(params, data)
    x = leaves["support_x"]
    penalty = lambda_of(leaves, settings, x) * torch.eye(x.shape[-1], dtype=x.dtype)
    outputs = _ridge(
        x,
        targets_of(data, settings, x),
        leaves["query_x"],
        penalty,
        intercept=bool(settings.get("intercept")),
    )
    return judged(calibrated(outputs, leaves, settings).softmax(-1), leaves, data, settings)


@specimen("ridge", mistake="regulariser-times-examples", scale="gradient-accumulated-twice")
def penalty_times_examples_and_twice(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Ridge regression with λ times the number of examples, whose gradient is accumulated twice."""
    found = penalty_times_examples(params, data, settings)
    return {**found, "gradients": {name: 2 * g for name, g in found["gradients"].items()}}


@specimen("ridge", mistake="regulariser-power")
def lambda_is_its_root(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Ridge regression whose λ is squared, as in rows of λ instead of √λ under the embeddings."""
    leaves = leaves_of(params, data)
    x = leaves["support_x"]
    penalty = lambda_of(leaves, settings, x).square() * torch.eye(x.shape[-1], dtype=x.dtype)
    outputs = _ridge(
        x,
        targets_of(data, settings, x),
        leaves["query_x"],
        penalty,
        intercept=bool(settings.get("intercept")),
    )
    return judged(calibrated(outputs, leaves, settings), leaves, data, settings)
