"""What the closed-form heads share: a linear predictor, solved for on the support set, then calibrated."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import numpy as np

from mltk.checks import Flag, Positive
from mltk.heads.calibrated import CalibratedHead, CalibrationSettings, double
from mltk.ops.kernels import kernels_of
from mltk.tree import Array, Tree

ROUNDING = 16 * float(np.finfo(np.float64).eps)
"""The least regulariser, relative to the sum of the squared embeddings; a smaller one is raised to it.

The rounding errors of a matrix of inner products can make it indefinite by about as much. So its Cholesky
factor exists however small the regulariser, and the solution moves by no more than rounding moves it anyway.
"""


class LinearSolution(NamedTuple):
    """A linear predictor a task.

    Attributes:
        weight: ``(T, o, d)``.
        bias: ``(T, o)``.
    """

    weight: Array
    bias: Array

    def predict(self, x: Array) -> Array:
        """The outputs ``(T, M, o)`` for embeddings ``(T, M, d)``."""
        return x @ self.weight.mT + self.bias[..., None, :]


class Solved(NamedTuple):
    """A predictor in double precision, and what `LinearHead.solve_vjp` needs.

    Attributes:
        weight: $W$, ``(T, o, d)``.
        bias: $b$, ``(T, o)``; ``None`` without an intercept.
        x: The rows $X$ that it was solved for, ``(T, N, d)``: the embeddings, centred with an intercept.
        x_mean: The mean of the embeddings, ``(T, 1, d)``; ``None`` without an intercept.
        reg_lambda: The regulariser that was taken, ``(T,)``.
        small: Where the one that was asked for was too small; ``(T,)``.
        residuals: Those of `LinearHead.weights_vjp`.
    """

    weight: Array
    bias: Array | None
    x: Array
    x_mean: Array | None
    reg_lambda: Array
    small: Array
    residuals: Any


@dataclass(frozen=True)
class LinearSettings(CalibrationSettings):
    r"""The settings of closed-form heads, and of the learners that take one.

    Attributes:
        reg_lambda: The regulariser $\lambda$, or its start if learned; not scaled by the number of examples.
        learn_lambda: Whether $\lambda$ is learned, by its logarithm.
    """

    reg_lambda: Positive
    _: KW_ONLY
    learn_lambda: Flag = True


@dataclass(frozen=True)
class LinearHead(LinearSettings, CalibratedHead):
    r"""A linear predictor $(W, b)$ with a regulariser, solved for on the support set, and calibrated.

    The solver pulls $\bar W$ and $\bar b$ back to the support embeddings and the regulariser $\lambda > 0$,
    whose logarithm is the parameter: $\overline{\log\lambda} = \lambda \bar\lambda$.

    With an intercept, which is not penalised, embeddings and targets are centred before $W$ is solved for,
    and $b = \langle t \rangle - W \langle x \rangle$ for their means. The cotangents of the centred rows sum
    to zero, so centring changes nothing in them. The bias adds $-\bar b \langle x \rangle^\top$ to $\bar W$,
    and $\langle x \rangle$ gets $-W^\top \bar b$, an equal share of it for each row.

    A regulariser that rounding errors of the rows would outweigh is raised first (`ROUNDING`): one more step,
    on the way there and back.

    Parameters: those of `mltk.heads.calibrated.CalibratedHead`, and ``log_lambda``, if it is learned.
    """

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `Head.shapes`."""
        return super().shapes | ({"log_lambda": ()} if self.learn_lambda else {})

    def init(self, rng: np.random.Generator) -> dict[str, Any]:
        """See `Head.init`."""
        own = (
            {"log_lambda": np.log(np.asarray(self.reg_lambda, dtype=np.float64))} if self.learn_lambda else {}
        )
        return super().init(rng) | own

    @property
    def has_intercept(self) -> bool:
        """Whether there is a bias $b$."""
        return False

    @abstractmethod
    def weights(self, x: Array, y: Array, reg_lambda: Array) -> tuple[Array, Any]:
        """The weight ``(T, o, d)``, and the residuals of `weights_vjp`.

        Args:
            x: Rows ``(T, N, d)`` in double precision.
            y: Their targets ``(T, N, o)``, likewise.
            reg_lambda: The regulariser, ``(T,)``, large enough for rounding errors.
        """

    @abstractmethod
    def weights_vjp(self, residuals: Any, g_weight: Array) -> tuple[Array, Array]:
        """The cotangents of the rows and, ``(T,)``, of the regulariser."""

    def solve(self, support: Array, target: Array, reg_lambda: Array) -> Solved:
        """The predictor for embeddings, targets and a regulariser ``()`` or ``(T,)``, all in double."""
        x, y, x_mean, y_mean = support, target, None, None
        if self.has_intercept:
            xp = kernels_of(support).xp
            x_mean, y_mean = (xp.mean(rows, axis=-2, keepdims=True) for rows in (support, target))
            x, y = support - x_mean, target - y_mean
        strength, small = _floored(reg_lambda, x)
        weight, residuals = self.weights(x, y, strength)
        bias = None if x_mean is None else (y_mean - x_mean @ weight.mT)[..., 0, :]
        return Solved(weight, bias, x, x_mean, strength, small, residuals)

    def solve_vjp(self, solved: Solved, g_weight: Array, g_bias: Array | None) -> tuple[Array, Array]:
        """The cotangents of the support embeddings and, ``(T,)``, of the regulariser."""
        if g_bias is not None:
            g_weight = g_weight - g_bias[..., None] @ solved.x_mean
        gx, g_lambda = self.weights_vjp(solved.residuals, g_weight)
        through, g_lambda = _floored_vjp(solved, g_lambda)
        gx = gx + through
        if g_bias is not None:
            gx = gx - g_bias[..., None, :] @ solved.weight / gx.shape[-2]
        return gx, g_lambda

    def solved(self, p: Tree, support: Array, target: Array) -> tuple[Tree, Solved]:
        """See `CalibratedHead.solved`."""
        xp = kernels_of(support).xp
        solved = self.solve(double(support), double(target), self._lambda(p, support))
        fitted = {"weight": xp.astype(solved.weight, support.dtype)}
        if solved.bias is not None:
            fitted["bias"] = xp.astype(solved.bias, support.dtype)
        return fitted, solved

    def solved_vjp(
        self, p: Tree, residuals: Solved, g_weight: Array, g_bias: Array | None
    ) -> tuple[Tree, Array]:
        """See `CalibratedHead.solved_vjp`."""
        g_support, g_lambda = self.solve_vjp(residuals, g_weight, g_bias)
        return {"log_lambda": g_lambda * self._lambda(p, g_weight)} if self.learn_lambda else {}, g_support

    def _lambda(self, p: Tree, like: Array) -> Array:
        xp = kernels_of(like).xp
        if self.learn_lambda:
            return xp.exp(double(p["log_lambda"]))
        return xp.asarray(self.reg_lambda, dtype=xp.float64, device=like.device)


def _floored(reg_lambda: Array, x: Array) -> tuple[Array, Array]:
    """The regulariser ``(T,)`` for rows ``(T, N, d)``, at least the least, and where it is too small."""
    kernels = kernels_of(x)
    least = ROUNDING * kernels.sum(x, (-2, -1), times=x)
    small = least > reg_lambda
    return kernels.xp.where(small, least, reg_lambda), small


def _floored_vjp(solved: Solved, g: Array) -> tuple[Array, Array]:
    """The cotangents of the rows, and of the regulariser before it was raised."""
    xp = kernels_of(g).xp
    through = xp.where(solved.small, g, xp.zeros_like(g))
    return 2 * ROUNDING * through[..., None, None] * solved.x, g - through
