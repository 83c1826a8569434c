"""What the closed-form heads share: a linear predictor, solved for on the support set, then calibrated."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

import numpy as np

from mltk.checks import Checked, Flag, Positive
from mltk.heads.head import Head
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
class LinearSettings(Checked):
    r"""The settings of closed-form heads, and of the learners that take one.

    Attributes:
        reg_lambda: The regulariser $\lambda$, or its start if learned; not scaled by the number of examples.
        scale: What outputs are multiplied by, $\alpha$, or its start if learned.
        learn_scale: Whether $\alpha$ is learned.
        learn_bias: Whether $\beta$, which is added to all outputs, is learned, from 0; else it stays there.
        learn_lambda: Whether $\lambda$ is learned, by its logarithm.

    Raises:
        SettingError: If a number is not positive, or a switch not a bool.
    """

    reg_lambda: Positive
    _: KW_ONLY
    scale: Positive = 1.0
    learn_scale: Flag = True
    learn_bias: Flag = True
    learn_lambda: Flag = True


@dataclass(frozen=True)
class LinearHead(LinearSettings, Head):
    r"""A linear predictor $(W, b)$, solved for on the support set, and a calibration of its outputs.

    For a query embedding $q$ the outputs are (Bertinetto, Henriques, Torr & Vedaldi 2019, section 3.2)

    $$z = W q + b, \qquad y = \alpha z + \beta,$$

    with one scale $\alpha$ and one shift $\beta$ for all tasks and outputs, which make good logits of
    values between 0 and 1. With the cotangents $\bar y$ of all queries,

    $$\bar\alpha = \textstyle\sum \bar y \odot z, \quad \bar\beta = \sum \bar y, \quad
      \bar z = \alpha \bar y, \quad \bar q = W^\top \bar z, \quad \bar W = \sum_q \bar z q^\top, \quad
      \bar b = \sum_q \bar z.$$

    The solver pulls $\bar W$ and $\bar b$ back to the support embeddings and the regulariser $\lambda > 0$,
    whose logarithm is the parameter: $\overline{\log\lambda} = \lambda \bar\lambda$. It works in double
    precision whatever the embeddings are in: its systems are small, and their condition numbers need not be.

    With an intercept, which is not penalised, embeddings and targets are centred before $W$ is solved for,
    and $b = \langle t \rangle - W \langle x \rangle$ for their means. The cotangents of the centred rows sum
    to zero, so centring changes nothing in them. The bias adds $-\bar b \langle x \rangle^\top$ to $\bar W$,
    and $\langle x \rangle$ gets $-W^\top \bar b$, an equal share of it for each row.

    A regulariser that rounding errors of the rows would outweigh is raised first (`ROUNDING`): one more step,
    on the way there and back.

    Parameters: ``scale``, ``bias`` and ``log_lambda``, those of them that are learned.
    """

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `Head.shapes`."""
        learned = {"scale": self.learn_scale, "bias": self.learn_bias, "log_lambda": self.learn_lambda}
        return {name: () for name, is_learned in learned.items() if is_learned}

    def init(self, rng: np.random.Generator) -> dict[str, Any]:
        """See `Head.init`."""
        starts = {"scale": self.scale, "bias": 0.0, "log_lambda": np.log(self.reg_lambda)}
        return {name: np.asarray(starts[name], dtype=np.float64) for name in self.shapes}

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

    def fit(self, p: Tree, support: Array, target: Array) -> Tree:
        """The predictor: ``weight`` ``(T, o, d)`` and, if it has one, ``bias`` ``(T, o)``."""
        return self._fit(p, support, target)[0]

    def predict(self, p: Tree, fitted: Tree, query: Array) -> Array:
        """The calibrated outputs ``(T, M, o)``."""
        z = _outputs(fitted, query) * self._scale(p)
        return z + p["bias"][..., None, None] if self.learn_bias else z

    def forward(self, p: Tree, support: Array, target: Array, query: Array) -> tuple[Array, Any]:
        """See `Head.forward`."""
        fitted, residuals = self._fit(p, support, target)
        return self.predict(p, fitted, query), (fitted, query, residuals)

    def vjp(self, p: Tree, residuals: Any, gy: Array) -> tuple[Tree, Array, Array]:
        """See `Head.vjp`."""
        fitted, query, solved = residuals
        kernels = kernels_of(gy)
        gz = self._scale(p) * gy
        g_weight = double(gz.mT @ query)
        g_bias = double(kernels.sum(gz, (-2,))) if self.has_intercept else None
        g_support, g_lambda = self.solve_vjp(solved, g_weight, g_bias)
        gp: Tree = {}
        if self.learn_scale:
            gp["scale"] = kernels.sum(gy, (-2, -1), times=_outputs(fitted, query))
        if self.learn_bias:
            gp["bias"] = kernels.sum(gy, (-2, -1))
        if self.learn_lambda:
            gp["log_lambda"] = kernels.xp.astype(g_lambda * self._lambda(p, gy), gy.dtype)
        return gp, kernels.xp.astype(g_support, gy.dtype), kernels.product(gz, fitted["weight"])

    def _fit(self, p: Tree, support: Array, target: Array) -> tuple[Tree, Solved]:
        xp = kernels_of(support).xp
        solved = self.solve(double(support), double(target), self._lambda(p, support))
        fitted = {"weight": xp.astype(solved.weight, support.dtype)}
        if solved.bias is not None:
            fitted["bias"] = xp.astype(solved.bias, support.dtype)
        return fitted, solved

    def _scale(self, p: Tree) -> Array | float:
        return p["scale"][..., None, None] if self.learn_scale else self.scale

    def _lambda(self, p: Tree, like: Array) -> Array:
        xp = kernels_of(like).xp
        if self.learn_lambda:
            return xp.exp(double(p["log_lambda"]))
        return xp.asarray(self.reg_lambda, dtype=xp.float64, device=like.device)


def _outputs(fitted: Tree, query: Array) -> Array:
    """The predictor's outputs before their calibration."""
    return kernels_of(query).affine(query, fitted["weight"], fitted.get("bias"))


def raise_diagonal(matrix: Array, by: Array) -> Array:
    """Square matrices ``(..., n, n)`` plus numbers ``(...)`` times the identity."""
    xp = kernels_of(matrix).xp
    identity = xp.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return matrix + by[..., None, None] * identity


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


def double(x: Array) -> Array:
    """The array in double precision."""
    xp = kernels_of(x).xp
    return xp.astype(x, xp.float64, copy=False)
