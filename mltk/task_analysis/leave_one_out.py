r"""The accuracy on each support example of a classifier that was learned from all others, in closed form.

**Ridge regression** on one-hot targets $Y$ is linear in them: with $C = (X X^\top + \lambda I)^{-1} Y$, the
prediction for example $i$ by the solution without it misses $y_i$ by
$C_i / [(X X^\top + \lambda I)^{-1}]_{ii}$, which is $e_i / (1 - h_{ii})$ with the hat matrix
$H = X X^\top (X X^\top + \lambda I)^{-1}$ and the residual $e = Y - H Y$ (Allen 1974; Cook & Weisberg 1982).

**Nearest neighbour**: the label of the nearest other example.

Between equals the accuracy is that of a choice at random: equally large outputs, equally near examples, up to
rounding. So it depends neither on the order of the examples nor on the names of classes.

A class with a single example has none left when it is asked for, so with one shot both are near zero.
"""

from __future__ import annotations

import math

from mltk.checks import check_scale
from mltk.heads.calibrated import raise_diagonal
from mltk.heads.linear import ROUNDING
from mltk.heads.similarity import centred, sqeuclidean
from mltk.ops.kernels import kernels_of
from mltk.task_analysis.features import labelled, without_scale
from mltk.tree import Array

ROUNDED = 1e-10
"""Numbers are equal that differ by no more, times their scale."""


def leave_one_out_ridge(features: Array, labels: Array, *, ways: int, reg_lambda: float = 0.01) -> Array:
    r"""The leave-one-out accuracy of ridge regression: see `mltk.task_analysis.leave_one_out`.

    Args:
        features: $X$, vectors ``(T, N, d)``, of any backend.
        labels: Their labels ``(T, N)``.
        ways: Classes a task.
        reg_lambda: $\lambda$, at least 3.6e-15 times the sum of the squared features of a task.

    Returns:
        Accuracies ``(T,)`` in double precision.

    Raises:
        SettingError: If ``reg_lambda`` is not positive.
        MltkError: As `mltk.task_analysis.features.labelled`.
    """
    check_scale("reg_lambda", reg_lambda, positive=True)
    x, target = labelled(features, labels, ways)
    return _accuracy(_largest(target - missed(x, target, reg_lambda), 1.0), target)


def missed(x: Array, target: Array, reg_lambda: float) -> Array:
    """By how much ridge regression without an example misses its targets, $C_i / [...]_{ii}$ as above.

    Args:
        x: $X$, vectors ``(T, N, d)``.
        target: $Y$, ``(T, N, o)``.
        reg_lambda: As for `leave_one_out_ridge`.

    Returns:
        Targets less predictions, ``(T, N, o)``.
    """
    kernels = kernels_of(x)
    xp = kernels.xp
    least = kernels.at_least(ROUNDING * kernels.sum(x, (-2, -1), times=x), reg_lambda)
    factor = kernels.cholesky(raise_diagonal(x @ x.mT, least))
    identity = xp.eye(x.shape[-2], dtype=x.dtype, device=x.device)
    inverse = kernels.cholesky_solve(factor, identity + xp.zeros_like(factor))
    return inverse @ target / xp.linalg.diagonal(inverse)[..., None]


def leave_one_out_nearest(features: Array, labels: Array, *, ways: int) -> Array:
    """The leave-one-out accuracy of the nearest neighbour: see `mltk.task_analysis.leave_one_out`.

    Args:
        features: Vectors ``(T, N, d)``, of any backend.
        labels: Their labels ``(T, N)``.
        ways: Classes a task.

    Returns:
        Accuracies ``(T,)`` in double precision.

    Raises:
        MltkError: As `mltk.task_analysis.features.labelled`.
    """
    x, target = labelled(features, labels, ways)
    x, xp = without_scale(x), kernels_of(x).xp
    itself = xp.eye(x.shape[-2], dtype=xp.bool, device=x.device)
    distances = xp.where(itself, math.inf, sqeuclidean(*centred(x, x)))
    scale = xp.max(xp.where(itself, 0.0, distances), axis=(-2, -1), keepdims=True)
    return _accuracy(_largest(-distances, scale) @ target, target)


def _largest(x: Array, scale: Array | float) -> Array:
    """Shares of one, which the largest numbers of a row have alike: those equal to it but for rounding."""
    xp = kernels_of(x).xp
    largest = x >= xp.max(x, axis=-1, keepdims=True) - ROUNDED * scale
    equals = xp.astype(largest, x.dtype)
    return equals / xp.sum(equals, axis=-1, keepdims=True)


def _accuracy(probabilities: Array, target: Array) -> Array:
    return kernels_of(target).sum(probabilities, (-2, -1), times=target) / target.shape[-2]
