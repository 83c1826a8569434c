"""Bayesian ridge regression on the support set, with prior and noise by the evidence, and its pullback."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, NamedTuple

from mltk.checks import Positive
from mltk.heads.calibrated import CalibratedHead, CalibrationSettings, double, raise_diagonal
from mltk.heads.evidence import largest_evidence
from mltk.ops.kernels import kernels_of
from mltk.tree import Array, Tree

FLAT = 1e-12
"""The least curvature of the evidence that is no rounding error, relative to what it is a difference of."""

NEAR = 1e-3
"""How far a zero may be, relative to the regulariser, by the step of Newton's method; bounds are no zeros."""


@dataclass(frozen=True)
class BayesianRidgeSettings(CalibrationSettings):
    """The settings of `BayesianRidgeHead` and its learner: those of `CalibrationSettings`."""

    _: KW_ONLY
    scale: Positive = 10.0


@dataclass(frozen=True)
class BayesianRidgeHead(BayesianRidgeSettings, CalibratedHead):
    r"""Ridge regression whose regulariser is that of the largest evidence, for each task.

    It is the posterior mean of `mltk.heads.evidence`, where $\lambda$ is the precision of the prior over that
    of the noise, which the outputs of a task share: classes whose weights were shrunk by different factors
    could not be compared. With the support embeddings as the rows of $X$ (N, d), the targets $Y$ (N, o) and

    $$K = X X^\top + \lambda I, \qquad A = K^{-1} Y, \qquad B = K^{-1} A, \qquad V = X^\top A$$

    the slope of the evidence in $\ln \lambda$ is $\tfrac\lambda2 F$ (the sums of `mltk.heads.evidence`,
    written with $K$), and $\lambda$ is a zero of

    $$F = N \frac{\langle A, A \rangle}{\langle Y, A \rangle} - \operatorname{tr} K^{-1}.$$

    **Pullback.** $\dot K = \dot X X^\top + X \dot X^\top + \dot\lambda I$ gives $\dot A = -K^{-1} \dot K A$
    and $\dot F = \langle G, \dot K \rangle$ with the symmetric

    $$G = N \Big( \frac{\langle A, A \rangle}{\langle Y, A \rangle^2} A A^\top
      - \frac{A B^\top + B A^\top}{\langle Y, A \rangle} \Big) + K^{-2}.$$

    Since $F$ stays zero, $\dot\lambda = -2 \langle G X, \dot X \rangle / \operatorname{tr} G$, where
    $\operatorname{tr} G = \partial F / \partial \lambda < 0$ at a maximum. What is left is the pullback of
    `mltk.heads.RidgeHead`: with $D = K^{-1} X \bar V$,

    $$\bar\lambda = -\langle D, A \rangle, \qquad
      \bar X = A (\bar V - X^\top D)^\top - D V^\top
      - \frac{2 \bar\lambda}{\operatorname{tr} G} G X.$$

    Where the evidence has no such maximum, or is flat, $\lambda$ is a multiple of the largest eigenvalue of
    $X X^\top$, and moves with that. Where two maxima are equally high the outputs jump.

    One step of Newton's method, which leaves $\lambda$ as it is but for rounding, tells an autograd engine
    all that: it need not see how the maximum was found.

    Parameters: those of `mltk.heads.calibrated.CalibratedHead`. With one-hot targets logits want a scale of
    about 10, as there; regression wants a scale of 1.
    """

    regresses: ClassVar[bool] = True

    def solved(self, p: Tree, support: Array, target: Array) -> tuple[Tree, BayesianSolution]:
        """See `CalibratedHead.solved`; the support set is kept, for the variance of predictions."""
        kernels, x, y = kernels_of(support), double(support), double(target)
        xp, examples = kernels.xp, x.shape[-2]
        reg_lambda, direction = largest_evidence(x, y)
        gram = x @ x.mT
        identity = raise_diagonal(xp.zeros_like(gram), xp.ones_like(reg_lambda))
        inverse = kernels.cholesky_solve(kernels.cholesky(raise_diagonal(gram, reg_lambda)), identity)
        a = inverse @ y
        b = inverse @ a
        ya, aa, ab, squares = (
            kernels.sum(u, (-2, -1), times=v) for u, v in ((y, a), (a, a), (a, b), (inverse, inverse))
        )
        ya = xp.where(ya > 0, ya, xp.ones_like(ya))
        f = examples * aa / ya - xp.linalg.trace(inverse)
        slope = examples * ((aa / ya) ** 2 - 2 * ab / ya) + squares
        settled = (slope < -FLAT * squares) & (xp.abs(f) < -NEAR * reg_lambda * slope)
        slope = xp.where(settled, slope, -xp.ones_like(slope))
        a = a + b * xp.where(settled, f / slope, xp.zeros_like(f))[..., None, None]
        v = x.mT @ a
        fitted = {"weight": xp.astype(v.mT, support.dtype), "support": support, "target": target}
        return fitted, BayesianSolution(x, v, a, b, inverse, ya, slope, settled, reg_lambda, direction)

    def solved_vjp(
        self, p: Tree, residuals: BayesianSolution, g_weight: Array, g_bias: Array | None
    ) -> tuple[Tree, Array]:
        """See `CalibratedHead.solved_vjp`."""
        x, v, a, b, inverse, ya, slope, settled, reg_lambda, direction = residuals
        kernels, gv, ya = kernels_of(x), g_weight.mT, ya[..., None, None]
        xp, examples = kernels.xp, x.shape[-2]
        d = inverse @ (x @ gv)
        g_lambda = -kernels.sum(d, (-2, -1), times=a)
        zeros = xp.zeros_like(g_lambda)
        gx = a @ (gv - x.mT @ d).mT - d @ v.mT
        # Where λ is the zero of F:
        aa = kernels.sum(a, (-2, -1), times=a)[..., None, None]
        g = examples * (aa / ya**2 * (a @ a.mT) - (a @ b.mT + b @ a.mT) / ya) + inverse @ inverse
        gx = gx + xp.where(settled, -2 * g_lambda / slope, zeros)[..., None, None] * (g @ x)
        # Where it is a multiple of the largest eigenvalue, that of X v for the unit vector v:
        along = x @ direction[..., None]
        largest = kernels.sum(along, (-2, -1), times=along)
        multiple = reg_lambda / xp.where(largest > 0, largest, xp.ones_like(largest))
        edge = 2 * xp.where(settled, zeros, g_lambda * multiple)
        return {}, gx + edge[..., None, None] * along * direction[..., None, :]


class BayesianSolution(NamedTuple):
    r"""A solution and what its pullback needs, in the symbols of `BayesianRidgeHead`; in double precision.

    Attributes:
        x: $X$, ``(T, N, d)``.
        v: $V$, ``(T, d, o)``.
        a: $A$, ``(T, N, o)``.
        b: $B$, ``(T, N, o)``.
        inverse: $K^{-1}$, ``(T, N, N)``.
        ya: $\langle Y, A \rangle$, ``(T,)``.
        slope: $\operatorname{tr} G$, ``(T,)``, where it is settled.
        settled: Whether $\lambda$ is a zero of $F$, ``(T,)``.
        reg_lambda: $\lambda$, ``(T,)``.
        direction: The right singular vector of $X$ to its largest singular value, ``(T, d)``.
    """

    x: Array
    v: Array
    a: Array
    b: Array
    inverse: Array
    ya: Array
    slope: Array
    settled: Array
    reg_lambda: Array
    direction: Array
