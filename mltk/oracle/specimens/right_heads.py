# ruff: noqa: D102 - `Head` says what each method is for, and a specimen how it is done
"""Correct heads in the ways that users write them; none may be accused. Each overrides methods of `Head`."""

from __future__ import annotations

import torch
from torch import Tensor

from mltk.oracle.specimens.declared import specimen
from mltk.oracle.specimens.head import Head


@specimen("prototypical")
class PrototypicalByCdist(Head):
    """The squares of `torch.cdist`."""

    def squares(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()


@specimen("prototypical")
class PrototypicalExpanded(Head):
    """Class by class, and the square of the distance multiplied out."""

    def prototypes(self, support: Tensor) -> Tensor:
        tasks = list(zip(support, self.data.support_y, strict=True))
        means = [[x[y == k].mean(0) for k in range(self.settings.ways)] for x, y in tasks]
        return torch.stack([torch.stack(of_a_task) for of_a_task in means])

    def squares(self, a: Tensor, b: Tensor) -> Tensor:
        return a.square().sum(-1)[..., None] + b.square().sum(-1)[..., None, :] - 2 * a @ b.mT


@specimen("matching")
class MatchingByAttention(Head):
    """A weighted mean of the labels: each example's share times its class."""

    def by_class(self, scores: Tensor, members: Tensor) -> Tensor:
        attention = scores.softmax(-1)[..., None]
        return (attention * members[:, None]).sum(2).log()


@specimen("matching")
class MatchingByLogsumexp(Head):
    """Sums of exponentials of each class and of all, in logarithms."""

    def by_class(self, scores: Tensor, members: Tensor) -> Tensor:
        own = torch.where(members[:, None] > 0, scores[..., None], -torch.inf)
        return own.logsumexp(2) - scores.logsumexp(-1, keepdim=True)


@specimen("ridge")
class RidgePrimal(Head):
    """A system as large as the embeddings, by Cholesky."""

    def solved(self, x: Tensor, y: Tensor) -> Tensor:
        gram = x.mT @ x + self.reg_lambda(x) * torch.eye(x.shape[-1], dtype=x.dtype)
        return torch.cholesky_solve(x.mT @ y, torch.linalg.cholesky(gram))


@specimen("ridge")
class RidgeWoodbury(Head):
    """A system as large as the support set."""

    def solved(self, x: Tensor, y: Tensor) -> Tensor:
        kernel = x @ x.mT + self.reg_lambda(x) * torch.eye(x.shape[1], dtype=x.dtype)
        return torch.matmul(x.mT, torch.linalg.solve(kernel, y))


@specimen("ridge")
class RidgeByLeastSquares(Head):
    """Least squares with rows of √λ under the embeddings."""

    def solved(self, x: Tensor, y: Tensor) -> Tensor:
        root = self.reg_lambda(x).sqrt() * torch.eye(x.shape[-1], dtype=x.dtype)
        q, r = torch.linalg.qr(torch.cat([x, root.expand(len(x), -1, -1)], 1))
        weight: Tensor = torch.linalg.solve_triangular(r, q[:, : x.shape[1]].mT @ y, upper=True)
        return weight


@specimen("logistic")
class LogisticByNewton(Head):
    """One class after the other: Newton steps on the weights."""

    def newton(self, x: Tensor, y: Tensor) -> Tensor:
        penalty, columns = self.reg_lambda(x), []
        for k in range(y.shape[-1]):
            w = torch.zeros_like(x[:, 0, :, None])
            for _ in range(self.settings.steps):
                share = (x @ w).sigmoid()
                gradient = x.mT @ (share - y[..., k : k + 1]) + penalty * w
                hessian = x.mT @ (share * (1 - share) * x) + penalty * torch.eye(x.shape[-1], dtype=x.dtype)
                w = w - torch.linalg.solve(hessian, gradient)
            columns.append(w)
        return torch.cat(columns, -1)


@specimen("logistic")
class LogisticByReweighting(Head):
    """Iteratively reweighted least squares in the span of the support set."""

    def newton(self, x: Tensor, y: Tensor) -> Tensor:
        target, kernel = y.mT[..., None], (x @ x.mT)[:, None]  # (T, ways, N, 1) and (T, 1, N, N)
        a = torch.zeros_like(target * x[:, None, :, :1])
        for _ in range(self.settings.steps):
            f = kernel @ a
            share = f.sigmoid()
            slope = share * (1 - share)
            matrix = slope * kernel + self.reg_lambda(x) * torch.eye(x.shape[1], dtype=x.dtype)
            a = torch.linalg.solve(matrix, slope * f + target - share)
        return (x.mT[:, None] @ a)[..., 0].mT
