# ruff: noqa: D102 - `Head` says what each method is for, and a specimen what is wrong in it
"""Wrong ridge and logistic regression. Each overrides methods of `Head`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody's name for it

from mltk.oracle.specimens.declared import specimen
from mltk.oracle.specimens.head import REGULARISED, SOLVED, Head, Outputs
from mltk.oracle.specimens.network import Arrays


@specimen("logistic", "ridge-regression", mistake="regulariser-times-examples")
class TimesExamples(Head):
    """λ of a mean over the examples."""

    def reg_lambda(self, x: Tensor) -> Tensor:
        return super().reg_lambda(x) * x.shape[1]


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


class WithIntercept(Head):
    """Skips cases without an intercept."""

    def __init__(self, params: Arrays, data: Any, settings: Any) -> None:
        super().__init__(params, data, settings)
        if not settings.get("intercept", settings.get("bias")):
            raise NotImplementedError("only with an intercept")


@specimen("ridge-regression", mistake="bias-penalised")
class ColumnOfOnes(WithIntercept):
    """The intercept is one more weight."""

    def fitted(self, x: Tensor, y: Tensor, intercept: bool) -> tuple[Tensor, Tensor]:
        both = self.solved(F.pad(x, (0, 1), value=1.0), y)
        return both[:, :-1], both[:, -1:]


@specimen("ridge", "ridge-regression", mistake="intercept-missing")
class NoIntercept(WithIntercept):
    """The setting is ignored."""

    def fitted(self, x: Tensor, y: Tensor, intercept: bool) -> tuple[Tensor, Tensor]:
        return super().fitted(x, y, False)


@specimen("ridge", "ridge-regression", mistake="intercept-wrong")
class NotTakenBack(WithIntercept):
    """The intercept is the mean of the targets, without the shift of the embeddings."""

    def fitted(self, x: Tensor, y: Tensor, intercept: bool) -> tuple[Tensor, Tensor]:
        weight, _ = super().fitted(x, y, True)
        return weight, y.mean(1, keepdim=True)


@specimen(*REGULARISED, mistake="targets-recoded")
class PlusMinusOne(Head):
    """Targets of ±1."""

    def __init__(self, params: Arrays, data: Any, settings: Any) -> None:
        super().__init__(params, data, settings)
        if settings.ways is None:
            raise NotImplementedError("only for classes")

    def targets(self, one_hot: Tensor) -> Tensor:
        return 2 * one_hot - 1


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


@specimen("ridge", "logistic", "ridge-regression", mistake="normalised-first")
class UnitEmbeddings(Head):
    """``F.normalize`` at the end of the embedding."""

    def logits(self, support: Tensor, query: Tensor) -> Tensor:
        return super().logits(self.unit(support), self.unit(query))

    def solver(self) -> Outputs:
        own = dict(self.leaves)
        self.leaves = {**own, "embeddings": self.unit(own["embeddings"])}
        leaves, self.kept = self.leaves, own
        found = super().solver()
        self.leaves = leaves
        return found

    def gradient(self, value: Tensor) -> Arrays:
        self.leaves = getattr(self, "kept", self.leaves)
        return super().gradient(value)


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
