r"""How far classes lie apart, compared with how far they spread.

With the mean $\mu_k$ of the $n_k$ examples of class $k$, the mean $\mu$ of all examples, and
$r_i = x_i - \mu_{y_i}$, the *Fisher ratio* is that of the traces of the scatter between and within classes
(Fisher 1936),

$$J = \sum_k n_k \|\mu_k - \mu\|^2 \Big/ \sum_i \|r_i\|^2,$$

and *NC1* (Papyan, Han & Donoho 2020, *Prevalence of neural collapse*) is
$\operatorname{tr}(\Sigma_W \Sigma_B^+) / K$ with $\Sigma_W = \tfrac1N \sum_i r_i r_i^\top$ and
$\Sigma_B = \tfrac1K M^\top M$, where the rows of $M$ are the class means less their mean. Since
$(M^\top M)^+ = A^\top A$ for $A = (M M^\top)^+ M$, it is $\tfrac1N \sum_i \|A r_i\|^2$, which takes no matrix
as large as the features are long.
"""

from __future__ import annotations

import math

from mltk.heads.prototypes import PrototypicalHead
from mltk.ops.kernels import kernels_of
from mltk.task_analysis.features import labelled, without_scale
from mltk.tree import Array

RANK = 1e-12
"""Singular values below this part of the largest one count as zero."""

ROUNDED = 1e-26
"""So does a scatter below this part of that of all examples."""


def fisher_ratio(features: Array, labels: Array, *, ways: int) -> Array:
    """The scatter between classes over that within them: see `mltk.task_analysis.separation`.

    Args:
        features: Vectors ``(T, N, d)``, of any backend.
        labels: Their labels ``(T, N)``.
        ways: Classes a task.

    Returns:
        ``(T,)`` in double precision: zero if all class means are equal, otherwise infinite where each class
        is a point, as with one shot.

    Raises:
        MltkError: As `mltk.task_analysis.features.labelled`.
    """
    between, within, _, _ = _scatter(features, labels, ways)
    xp = kernels_of(between).xp
    none = xp.where(between > 0, math.inf, 0.0)
    return xp.where(within > 0, between / xp.where(within > 0, within, 1.0), none)


def nc1(features: Array, labels: Array, *, ways: int) -> Array:
    """The first measure of neural collapse: see `mltk.task_analysis.separation`; lower is further apart.

    Args:
        features: Vectors ``(T, N, d)``, of any backend.
        labels: Their labels ``(T, N)``; each class needs an example.
        ways: Classes a task.

    Returns:
        ``(T,)`` in double precision: zero where each class is a point, otherwise infinite if all class means
        are equal.

    Raises:
        MltkError: As `mltk.task_analysis.features.labelled`.
    """
    between, within, means, residuals = _scatter(features, labels, ways)
    xp = kernels_of(between).xp
    means = means - xp.mean(means, axis=-2, keepdims=True)
    seen = residuals @ (xp.linalg.pinv(means @ means.mT, rtol=RANK) @ means).mT
    none = xp.where(within > 0, math.inf, 0.0)
    return xp.where((between > 0) & (within > 0), _squares(seen) / seen.shape[-2], none)


def _scatter(features: Array, labels: Array, ways: int) -> tuple[Array, Array, Array, Array]:
    """The scatter between and within classes, ``(T,)``, class means, and examples less those of their class.

    What rounding leaves of no scatter is set to zero.
    """
    x, target = labelled(features, labels, ways)
    xp = kernels_of(x).xp
    x = without_scale(x)
    x = x - x[..., :1, :]  # constant features are zeros, whatever they are
    means = PrototypicalHead().fit({}, x, target)["prototypes"]
    own = target @ means
    parts = _squares(own - xp.mean(own, axis=-2, keepdims=True)), _squares(x - own)
    between, within = (xp.where(part > ROUNDED * (parts[0] + parts[1]), part, 0.0) for part in parts)
    return between, within, means, x - own


def _squares(x: Array) -> Array:
    return kernels_of(x).sum(x, (-2, -1), times=x)
