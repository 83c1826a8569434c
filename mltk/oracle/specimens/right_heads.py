"""Correct heads in the ways that users write them; none may be accused."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody's name for it

from mltk.oracle.specimens.declared import specimen
from mltk.oracle.specimens.network import Arrays, gradients, learnable

Outputs = dict[str, Any]
"""``logits``, ``loss`` and ``gradients``."""


def leaves_of(params: Arrays, data: Any) -> Arrays:
    """The embeddings and the head's parameters, as leaves."""
    return learnable({"support_x": data.support_x, "query_x": data.query_x, **params})


def judged(logits: Tensor, leaves: Arrays, data: Any, settings: Any, *, factor: float = 1.0) -> Outputs:
    """Logits ``(T, M, ways)``, their mean loss and its gradients."""
    if settings.ways is None:
        loss = factor * F.mse_loss(logits, data.query_y)
    else:
        loss = factor * F.cross_entropy(logits.flatten(0, 1), data.query_y.flatten())
    return {"logits": logits.detach(), "loss": loss.detach(), "gradients": gradients(loss, leaves)}


def one_hot(labels: Tensor, ways: int, like: Tensor) -> Tensor:
    """Rows of one 1 each, of the dtype of the embeddings."""
    return F.one_hot(labels, ways).to(like.dtype)


def prototypes_of(leaves: Arrays, data: Any, settings: Any) -> Tensor:
    """The class means ``(T, ways, d)``."""
    members = one_hot(data.support_y, settings.ways, leaves["support_x"])
    sums: Tensor = members.mT @ leaves["support_x"]
    return sums / members.sum(1)[..., None]


def temperature_of(leaves: Arrays, settings: Any) -> Tensor | float:
    """Learned or given."""
    if "log_temperature" in leaves:
        return leaves["log_temperature"].exp()
    return float(settings.temperature)


def unit(x: Tensor) -> Tensor:
    """Rows of length 1; a row of zeros stays, and passes no gradient on."""
    squared = x.square().sum(-1, keepdim=True)
    return torch.where(squared > 0, x / torch.where(squared > 0, squared, 1).sqrt(), 0)


@specimen("prototypical")
def prototypical_by_cdist(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Prototypical networks: the squares of `torch.cdist`, or cosines."""
    leaves = leaves_of(params, data)
    prototypes = prototypes_of(leaves, data, settings)
    if settings.distance == "cosine":
        scores = unit(leaves["query_x"]) @ unit(prototypes).mT
    else:
        mode = "donot_use_mm_for_euclid_dist"
        scores = -torch.cdist(leaves["query_x"], prototypes, compute_mode=mode).square()
    return judged(scores / temperature_of(leaves, settings), leaves, data, settings)


@specimen("prototypical")
def prototypical_expanded(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Prototypical networks: task by task, the square of the distance multiplied out."""
    leaves = leaves_of(params, data)
    logits = []
    for support, labels, query in zip(leaves["support_x"], data.support_y, leaves["query_x"], strict=True):
        prototypes = torch.stack([support[labels == k].mean(0) for k in range(settings.ways)])
        if settings.distance == "cosine":
            scores = unit(query) @ unit(prototypes).T
        else:
            lengths = query.square().sum(1)[:, None] + prototypes.square().sum(1)
            scores = -(lengths - 2 * query @ prototypes.T)
        logits.append(scores / temperature_of(leaves, settings))
    return judged(torch.stack(logits), leaves, data, settings)


@specimen("matching")
def matching_by_attention(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Matching networks: the logarithm of the attention that falls on each class."""
    leaves = leaves_of(params, data)
    cosines = unit(leaves["query_x"]) @ unit(leaves["support_x"]).mT
    attention = (cosines / settings.temperature).softmax(-1)
    members = one_hot(data.support_y, settings.ways, attention)
    return judged((attention @ members).log(), leaves, data, settings)


@specimen("matching")
def matching_by_logsumexp(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Matching networks: sums of exponentials of each class and of all, in logarithms."""
    leaves = leaves_of(params, data)
    logits = []
    for support, labels, query in zip(leaves["support_x"], data.support_y, leaves["query_x"], strict=True):
        scores = unit(query) @ unit(support).mT / settings.temperature
        masses = [scores[:, labels == k].logsumexp(1) for k in range(settings.ways)]
        logits.append(torch.stack(masses, 1) - scores.logsumexp(1, keepdim=True))
    return judged(torch.stack(logits), leaves, data, settings)


def targets_of(data: Any, settings: Any, like: Tensor) -> Tensor:
    """One-hot labels, or the numbers of regression."""
    if settings.ways is None:
        numbers: Tensor = data.support_y
        return numbers
    return one_hot(data.support_y, settings.ways, like)


def lambda_of(leaves: Arrays, settings: Any, like: Tensor) -> Tensor:
    """Learned or given."""
    if "log_lambda" in leaves:
        return leaves["log_lambda"].exp()
    return torch.as_tensor(settings.reg_lambda, dtype=like.dtype)


def calibrated(outputs: Tensor, leaves: Arrays, settings: Any) -> Tensor:
    """Outputs times the scale plus the shift, learned or given."""
    scaled: Tensor = outputs * leaves.get("scale", settings.scale)
    return scaled + leaves.get("bias", 0.0)


@specimen("ridge")
def ridge_primal(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Ridge regression: a system as large as the embeddings."""
    leaves = leaves_of(params, data)
    x, query = leaves["support_x"], leaves["query_x"]
    y = targets_of(data, settings, x)
    if settings.get("intercept"):
        middle, height = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
        x, query, y = x - middle, query - middle, y - height
    else:
        height = torch.zeros_like(y[:, :1])
    gram = x.mT @ x + lambda_of(leaves, settings, x) * torch.eye(x.shape[-1], dtype=x.dtype)
    weight = torch.linalg.solve(gram, x.mT @ y)
    return judged(calibrated(query @ weight + height, leaves, settings), leaves, data, settings)


@specimen("ridge")
def ridge_woodbury(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Ridge regression: a system as large as the support set."""
    leaves = leaves_of(params, data)
    x, query = leaves["support_x"], leaves["query_x"]
    y = targets_of(data, settings, x)
    height = torch.zeros_like(y[:, :1])
    if settings.get("intercept"):
        middle, height = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
        x, query, y = x - middle, query - middle, y - height
    kernel = x @ x.mT + lambda_of(leaves, settings, x) * torch.eye(x.shape[1], dtype=x.dtype)
    weight = x.mT @ torch.linalg.solve(kernel, y)
    return judged(calibrated(query @ weight + height, leaves, settings), leaves, data, settings)


@specimen("ridge")
def ridge_by_least_squares(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Ridge regression: least squares with rows of √λ under the embeddings."""
    leaves = leaves_of(params, data)
    logits = []
    for x, y, query in zip(
        leaves["support_x"], targets_of(data, settings, data.support_x), leaves["query_x"], strict=True
    ):
        rows, height = x, torch.zeros_like(y[0])
        if settings.get("intercept"):
            rows, query, height, y = x - x.mean(0), query - x.mean(0), y.mean(0), y - y.mean(0)
        root = lambda_of(leaves, settings, x).sqrt() * torch.eye(x.shape[1], dtype=x.dtype)
        below = torch.zeros(x.shape[1], y.shape[1], dtype=x.dtype)
        q, r = torch.linalg.qr(torch.cat([rows, root]))
        weight = torch.linalg.solve_triangular(r, q.T @ torch.cat([y, below]), upper=True)
        logits.append(query @ weight + height)
    return judged(calibrated(torch.stack(logits), leaves, settings), leaves, data, settings)


@specimen("logistic")
def logistic_by_newton(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Logistic regression, one class against the rest: Newton steps on the weights."""
    leaves = leaves_of(params, data)
    x, penalty = leaves["support_x"], lambda_of(leaves, settings, leaves["support_x"])
    y = targets_of(data, settings, x)
    columns = []
    for k in range(settings.ways):
        w = torch.zeros_like(x[:, 0, :, None])
        for _ in range(settings.steps):
            f = x @ w
            share = f.sigmoid()
            slope = share * (1 - share)
            gradient = x.mT @ (share - y[:, :, k : k + 1]) + penalty * w
            hessian = x.mT @ (slope * x) + penalty * torch.eye(x.shape[-1], dtype=x.dtype)
            w = w - torch.linalg.solve(hessian, gradient)
        columns.append(w)
    outputs = leaves["query_x"] @ torch.cat(columns, -1)
    return judged(calibrated(outputs, leaves, settings), leaves, data, settings)


@specimen("logistic")
def logistic_by_reweighting(params: Arrays, data: Any, settings: Any) -> Outputs:
    """Logistic regression: iteratively reweighted least squares in the span of the support set."""
    leaves = leaves_of(params, data)
    x, penalty = leaves["support_x"], lambda_of(leaves, settings, leaves["support_x"])
    target = targets_of(data, settings, x).mT[..., None]  # (T, ways, N, 1)
    kernel = (x @ x.mT)[:, None]
    a = torch.zeros_like(target)
    for _ in range(settings.steps):
        f = kernel @ a
        share = f.sigmoid()
        slope = share * (1 - share)
        matrix = slope * kernel + penalty * torch.eye(x.shape[1], dtype=x.dtype)
        a = torch.linalg.solve(matrix, slope * f + target - share)
    weight = (x.mT[:, None] @ a)[..., 0]  # (T, ways, d)
    return judged(calibrated(leaves["query_x"] @ weight.mT, leaves, settings), leaves, data, settings)
