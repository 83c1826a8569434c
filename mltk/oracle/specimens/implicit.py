# ruff: noqa: D102 - `Implicit` says what each method is for, and a specimen what is wrong in it
"""Implicit MAML in plain Torch: Newton's method finds the optimum. Wrong ones override its methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mltk.oracle.specimens.declared import specimen
from mltk.oracle.specimens.network import Arrays, Result, Task, descend, query_loss, support_loss, tasks

IMPLICIT = ("implicit-maml",)


@specimen(*IMPLICIT)
class Implicit:
    """The proximal optimum of each task, and the implicit function theorem.

    Args:
        params: The start.
        data: The episode.
        settings: Of the case.
    """

    def __init__(self, params: Arrays, data: Any, settings: Any) -> None:
        self.params, self.data, self.settings = params, data, settings
        self.start = torch.cat([p.flatten() for p in params.values()])
        self.strength = settings.reg_lambda

    @classmethod
    def judged(cls, params: Arrays, data: Any, settings: Any) -> Result:
        """What is checked."""
        return cls(params, data, settings).answer()

    def answer(self) -> Result:
        """Loss and meta-gradient."""
        losses, found = [], []
        for task in tasks(self.data):
            end = self.optimum(task)
            outer = self.of(query_loss, task)
            hessian = torch.func.hessian(self.of(support_loss, task))(end)
            losses.append(outer(end))
            found.append(self.solved(hessian, torch.func.grad(outer)(end)))
        return torch.stack(losses).mean(), self.named(torch.stack(found).mean(0))

    def of(self, loss: Callable[[Any, Arrays, Task], Tensor], task: Task) -> Callable[[Tensor], Tensor]:
        """A loss as a function of all parameters in a row."""
        return lambda row: loss(self.settings, self.named(row), task)

    def named(self, row: Tensor) -> Arrays:
        """Parameters under their names."""
        parts = torch.split(row, [p.numel() for p in self.params.values()])
        return {name: part.view(p.shape) for (name, p), part in zip(self.params.items(), parts, strict=True)}

    def optimum(self, task: Task) -> Tensor:
        """Where the support loss with the proximal term is smallest."""
        inner, strength = self.of(support_loss, task), self.proximal()

        def value(row: Tensor) -> Tensor:
            return inner(row) + strength / 2 * (row - self.start).square().sum()

        row = self.start
        for _ in range(30):
            row = row - torch.linalg.solve(torch.func.hessian(value)(row), torch.func.grad(value)(row))
        return row

    def proximal(self) -> float:
        """The strength of the proximal term."""
        return float(self.strength)

    def solved(self, hessian: Tensor, g: Tensor) -> Tensor:
        """What the query gradient becomes."""
        solution: Tensor = torch.linalg.solve(self.system(hessian), g)
        return solution

    def system(self, hessian: Tensor) -> Tensor:
        """The matrix of the implicit function theorem."""
        return torch.eye(len(hessian), dtype=hessian.dtype).add(hessian / self.strength)


@specimen(*IMPLICIT, mistake="proximal-term-missing")
class OrdinaryDescent(Implicit):
    """The inner loop of MAML, run for long."""

    def optimum(self, task: Task) -> Tensor:
        fast = {name: p.clone().requires_grad_() for name, p in self.params.items()}
        for _ in range(self.settings.inner_steps):
            value = support_loss(self.settings, fast, task)
            fast = descend(fast, value, self.settings.inner_lr, create_graph=False)
            fast = {name: p.detach().requires_grad_() for name, p in fast.items()}
        return torch.cat([p.detach().flatten() for p in fast.values()])


@specimen(*IMPLICIT, mistake="proximal-strength")
class HalfForgotten(Implicit):
    """λ times the squared distance, without the half."""

    def proximal(self) -> float:
        return 2 * super().proximal()


@specimen(*IMPLICIT, mistake="linear-system-missing")
class QueryGradient(Implicit):
    """The query gradient as it is."""

    def solved(self, hessian: Tensor, g: Tensor) -> Tensor:
        return g


@specimen(*IMPLICIT, mistake="linear-system-wrong")
class StrengthForgotten(Implicit):
    """I + H."""

    def system(self, hessian: Tensor) -> Tensor:
        return torch.eye(len(hessian), dtype=hessian.dtype) + hessian


@specimen(*IMPLICIT, mistake="system-damped")
class Damped(Implicit):
    """A damping of 1e-3."""

    def system(self, hessian: Tensor) -> Tensor:
        return super().system(hessian) + 1e-3 * torch.eye(len(hessian), dtype=hessian.dtype)


@specimen(*IMPLICIT, mistake="conjugate-gradients-stop-early")
class ThreeIterations(Implicit):
    """Three iterations of conjugate gradients."""

    def solved(self, hessian: Tensor, g: Tensor) -> Tensor:
        matrix, x, r = self.system(hessian), torch.zeros_like(g), g
        p, square = r, r @ r
        for _ in range(3):
            length = square / (p @ matrix @ p)
            x, r = x + length * p, r - length * (matrix @ p)
            before, square = square, r @ r
            p = r + square / before * p
        return x
