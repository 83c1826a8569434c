# ruff: noqa: D102 - `Implicit` says what each method is for, and a specimen what is wrong in it
"""Implicit MAML in plain Torch: Newton's method finds the optimum. Wrong ones override its methods."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mltk.oracle.specimens.declared import specimen
from mltk.oracle.specimens.learner import Learner
from mltk.oracle.specimens.network import Arrays, Result, Task

IMPLICIT = "implicit-maml"


@specimen(IMPLICIT)
class Implicit(Learner):
    """The proximal optimum of each task, and the implicit function theorem."""

    first_order = True

    def answer(self) -> Result:
        return self.task_by_task(self.implicit)

    def implicit(self, task: Task) -> Result:
        """Loss and gradient of a task."""
        end, outer = self.optimum(task), self.of(self.query_loss, task)
        hessian = torch.func.hessian(self.of(self.support_loss, task))(end)
        return outer(end), self.named(self.solved(hessian, torch.func.grad(outer)(end)))

    def of(self, loss: Callable[[Arrays, Task], Tensor], task: Task) -> Callable[[Tensor], Tensor]:
        """A loss as a function of all parameters in a row."""
        return lambda row: loss(self.named(row), task)

    def row(self, params: Arrays) -> Tensor:
        """All parameters in a row, as numbers."""
        return torch.cat([p.detach().flatten() for p in params.values()])

    def named(self, row: Tensor) -> Arrays:
        """Parameters under their names."""
        parts = torch.split(row, [p.numel() for p in self.params.values()])
        return {name: part.view(p.shape) for (name, p), part in zip(self.params.items(), parts, strict=True)}

    def optimum(self, task: Task) -> Tensor:
        """Where the support loss with the proximal term is smallest."""
        inner, strength, start = self.of(self.support_loss, task), self.proximal(), self.row(self.start)

        def value(row: Tensor) -> Tensor:
            return inner(row) + strength / 2 * (row - start).square().sum()

        row, near = start, torch.finfo(start.dtype).eps ** (2 / 3)  # whose square is no error any more
        for _ in range(30):
            step = torch.linalg.solve(torch.func.hessian(value)(row), torch.func.grad(value)(row))
            row = row - step
            if step.abs().max() <= near * row.abs().max():
                break
        return row

    def proximal(self) -> float:
        """The strength of the proximal term."""
        return float(self.settings.reg_lambda)

    def solved(self, hessian: Tensor, g: Tensor) -> Tensor:
        """What the query gradient becomes."""
        solution: Tensor = torch.linalg.solve(self.system(hessian), g)
        return solution

    def system(self, hessian: Tensor) -> Tensor:
        """The matrix of the implicit function theorem."""
        return torch.eye(len(hessian), dtype=hessian.dtype).add(hessian / self.settings.reg_lambda)


@specimen(IMPLICIT, mistake="proximal-term-missing")
class OrdinaryDescent(Implicit):
    """The inner loop of MAML, run for long."""

    def optimum(self, task: Task) -> Tensor:
        return self.row(self.adapt(self.start, task))


@specimen(IMPLICIT, mistake="proximal-strength")
class HalfForgotten(Implicit):
    """λ times the squared distance, without the half."""

    def proximal(self) -> float:
        return 2 * super().proximal()


@specimen(IMPLICIT, mistake="linear-system-missing")
class QueryGradient(Implicit):
    """The query gradient as it is."""

    def solved(self, hessian: Tensor, g: Tensor) -> Tensor:
        return g


@specimen(IMPLICIT, mistake="linear-system-wrong")
class StrengthForgotten(Implicit):
    """I + H."""

    def system(self, hessian: Tensor) -> Tensor:
        return torch.eye(len(hessian), dtype=hessian.dtype) + hessian


@specimen(IMPLICIT, mistake="system-damped")
class Damped(Implicit):
    """A damping of 1e-3."""

    def system(self, hessian: Tensor) -> Tensor:
        return super().system(hessian) + 1e-3 * torch.eye(len(hessian), dtype=hessian.dtype)


@specimen(IMPLICIT, mistake="conjugate-gradients-stop-early")
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
