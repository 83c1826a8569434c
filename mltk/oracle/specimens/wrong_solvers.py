# ruff: noqa: D102 - `Head` says what each method is for, and a specimen what is wrong in it
"""Wrong ridge and logistic regression. Each overrides methods of `Head`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody's name for it

from mltk.oracle.specimens.declared import classes, intercepts, specimen
from mltk.oracle.specimens.head import REGULARISED, SOLVED, Head
from mltk.oracle.specimens.network import Arrays


@specimen(*REGULARISED, mistake="regulariser-times-examples")
class TimesExamples(Head):
    """λ of a mean over the examples."""

    def reg_lambda(self, x: Tensor) -> Tensor:
        return super().reg_lambda(x) * x.shape[1]


@specimen("ridge", mistake="regulariser-times-examples", scale="gradient-accumulated-twice")
class TimesExamplesAndTwice(TimesExamples):
    """λ of a mean over the examples, and a gradient that is accumulated twice."""

    def gradient(self, value: Tensor) -> Arrays:
        return {name: 2 * g for name, g in super().gradient(value).items()}


@specimen(*REGULARISED, mistake="regulariser-times-features")
class OverFeatures(Head):
    """λ of a mean over the weights."""

    def reg_lambda(self, x: Tensor) -> Tensor:
        return super().reg_lambda(x) / x.shape[-1]


@specimen(*REGULARISED, mistake="regulariser-halved-or-doubled")
class Doubled(Head):
    """A half before the squared error, and none before the squared weights."""

    def reg_lambda(self, x: Tensor) -> Tensor:
        return 2 * super().reg_lambda(x)


@specimen("logistic", "ridge-regression", mistake="regulariser-power")
class InverseStrength(Head):
    """λ is taken for the inverse strength C of other libraries."""

    def reg_lambda(self, x: Tensor) -> Tensor:
        return 1 / super().reg_lambda(x)


@specimen("ridge", mistake="regulariser-power")
class LambdaIsItsRoot(Head):
    """λ is squared, as by rows of λ instead of √λ under the embeddings."""

    def reg_lambda(self, x: Tensor) -> Tensor:
        return super().reg_lambda(x).square()


@specimen(*SOLVED, mistake="logarithm-of-regulariser")
class ExponentialTwice(Head):
    """``exp`` comes once too often."""

    def reg_lambda(self, x: Tensor) -> Tensor:
        return super().reg_lambda(x).exp()


@specimen(*REGULARISED, mistake="regulariser-left-out")
class DefaultThatNothingChanges(Head):
    """λ is 10 whatever the setting says."""

    def reg_lambda(self, x: Tensor) -> Tensor:
        return torch.full_like(super().reg_lambda(x), 10.0)


@specimen(*REGULARISED, mistake="regulariser-jitter")
class Jitter(Head):
    """A jitter of 1e-8 for the Cholesky factor."""

    def reg_lambda(self, x: Tensor) -> Tensor:
        return super().reg_lambda(x) + 1e-8


@specimen("ridge-regression", mistake="lambda-on-wrong-matrix")
class LambdaOnEveryEntry(Head):
    """``gram + lam`` without the identity."""

    def solved(self, x: Tensor, y: Tensor) -> Tensor:
        weight: Tensor = torch.linalg.solve(x.mT @ x + self.reg_lambda(x), x.mT @ y)
        return weight


@specimen("ridge", mistake="lambda-on-wrong-matrix")
class LambdaOnTheKernel(Head):
    """After Woodbury, with λ on the kernel and not on the identity."""

    def solved(self, x: Tensor, y: Tensor) -> Tensor:
        matrix = self.reg_lambda(x) * (x @ x.mT) + torch.eye(x.shape[1], dtype=x.dtype)
        return torch.matmul(x.mT, torch.linalg.solve(matrix, y))


@specimen("ridge", "ridge-regression", mistake="bias-penalised", only=intercepts)
class ColumnOfOnes(Head):
    """The intercept is one more weight."""

    def fitted(self, x: Tensor, y: Tensor, intercept: bool) -> tuple[Tensor, Tensor]:
        both = self.solved(F.pad(x, (0, 1), value=1.0), y)
        return both[:, :-1], both[:, -1:]


@specimen("ridge", "ridge-regression", mistake="intercept-missing", only=intercepts)
class NoIntercept(Head):
    """The setting is ignored."""

    def fitted(self, x: Tensor, y: Tensor, intercept: bool) -> tuple[Tensor, Tensor]:
        return super().fitted(x, y, False)


@specimen("ridge", "ridge-regression", mistake="intercept-wrong", only=intercepts)
class NotTakenBack(Head):
    """The intercept is the mean of the targets, without the shift of the embeddings."""

    def fitted(self, x: Tensor, y: Tensor, intercept: bool) -> tuple[Tensor, Tensor]:
        weight, _ = super().fitted(x, y, True)
        return weight, y.mean(1, keepdim=True)


@specimen(*REGULARISED, mistake="targets-recoded", only=classes)
class PlusMinusOne(Head):
    """Targets of ±1."""

    def targets(self, y: Tensor) -> Tensor:
        return 2 * super().targets(y) - 1


@specimen(*REGULARISED, mistake="scale-left-out")
class ScaleTwice(Head):
    """The scale is applied twice."""

    def scale(self) -> Any:
        return super().scale() ** 2


@specimen(*SOLVED, mistake="shift-wrong")
class ShiftScaled(Head):
    """The shift comes before the scale."""

    def calibrated(self, outputs: Tensor) -> Tensor:
        shifted: Tensor = self.scale() * (outputs + self.leaves.get("bias", 0.0))
        return shifted


@specimen(*SOLVED, mistake="solution-is-constant")
class SolvedWithoutGradient(Head):
    """Solved under ``no_grad``."""

    def fitted(self, x: Tensor, y: Tensor, intercept: bool) -> tuple[Tensor, Tensor]:
        weight, bias = super().fitted(x, y, intercept)
        return weight.detach(), bias.detach()

    def newton(self, x: Tensor, y: Tensor) -> Tensor:
        return super().newton(x, y).detach()


@specimen("logistic", mistake="newton-steps")
class OneStepLess(Head):
    """A loop that counts from one."""

    def newton(self, x: Tensor, y: Tensor) -> Tensor:
        if self.settings.steps < 2:
            raise NotImplementedError("only for several steps")
        weight = torch.zeros_like(x[:, 0, :, None] * y[:, :1])
        for k in range(1, self.settings.steps):
            weight = self.newton_step(weight, x, y, k)
        return weight


@specimen("logistic", mistake="newton-matrix")
class QuarterSlopes(Head):
    """A bound stands for the slopes."""

    def hessian(self, x: Tensor, slope: Tensor) -> Tensor:
        return super().hessian(x, torch.full_like(slope, 0.25))


@specimen("logistic", mistake="multinomial")
class OneSoftmax(Head):
    """One softmax over all classes, as other libraries have it by default."""

    def newton(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.stack([self.weights(own, target) for own, target in zip(x, y, strict=True)])

    def weights(self, x: Tensor, y: Tensor) -> Tensor:
        """Those of a task."""
        strength = self.reg_lambda(x)[0, 0]
        weight = torch.zeros(x.shape[1], y.shape[1], dtype=x.dtype)

        def slope(w: Tensor) -> Tensor:
            g: Tensor = x.T @ ((x @ w).softmax(-1) - y) + strength * w
            return g

        for _ in range(self.settings.steps):
            curvature = torch.func.jacrev(slope)(weight).reshape(weight.numel(), -1)
            weight = weight - torch.linalg.solve(curvature, slope(weight).flatten()).reshape(weight.shape)
        return weight
