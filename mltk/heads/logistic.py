"""Logistic regression on the support set, by Newton's method, and its pullback."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, NamedTuple

from mltk.checks import Count, Positive
from mltk.heads.calibrated import raise_diagonal
from mltk.heads.linear import LinearHead, LinearSettings
from mltk.ops.kernels import kernels_of
from mltk.tree import Array

SATURATED = 700.0
"""Logits beyond which the slope of the sigmoid is zero to double precision: they are as good as this one."""


@dataclass(frozen=True)
class LogisticSettings(LinearSettings):
    """The settings of `LogisticHead` and its learner: those of `mltk.heads.linear.LinearSettings`, and this.

    Attributes:
        steps: Newton steps.
    """

    reg_lambda: Positive = 1.0
    _: KW_ONLY
    steps: Count = 5


@dataclass(frozen=True)
class LogisticHead(LogisticSettings, LinearHead):
    r"""Logistic regression, one class against the rest: the solver of LR-D2 (Bertinetto et al. 2019).

    For each class, with the support embeddings as the rows of $X$ (N, d), the targets $y \in \{0, 1\}^N$
    and the sigmoid $\sigma$,

    $$w = \arg\min_w \sum_i \big( \log(1 + e^{f_i}) - y_i f_i \big) + \tfrac\lambda2 \|w\|^2, \qquad
      f = X w,$$

    by a fixed number of Newton steps from $w = 0$ (iteratively reweighted least squares; section 3.3 of the
    paper). All iterates lie in the span of the rows: $w = X^\top a$ and $f = K a$ with $K = X X^\top$. With
    $\mu = \sigma(f)$ and the slopes $s = \mu (1 - \mu)$, a step from $a$ to $a^+$, $f^+ = K a^+$, solves

    $$s \odot (f^+ - f) + \lambda a^+ = y - \mu, \qquad\text{that is}\qquad
      M a^+ = s \odot f + y - \mu \ \text{ with } \ M = \operatorname{diag}(s) K + \lambda I.$$

    With $r = \sqrt s$ and the symmetric $B = \operatorname{diag}(r) K \operatorname{diag}(r) + \lambda I$,
    this is the Woodbury form of the paper's equation, free of divisions by a slope that may be zero:

    $$a^+ = r \odot B^{-1} \big( r \odot f + y \odot e^{-f/2} - (1 - y) \odot e^{f/2} \big), \qquad
      r = \frac{1}{e^{f/2} + e^{-f/2}},$$

    since $(y - \mu) / r$ is the difference of the exponentials. $B$ has a Cholesky factor.

    **Pullback** of a step, implicitly. Differentiate the equation that it solves; $\dot\mu = s \odot \dot f$
    cancels, which is why Newton's method converges quadratically. With $\dot s = s (1 - 2\mu) \dot f$,

    $$M \dot a^+ = -s \odot (\dot K a^+) - \dot\lambda a^+
      - (1 - 2\mu) \odot (f^+ - f) \odot s \odot \dot f.$$

    For a cotangent $\bar a^+$ let $M^\top p = \bar a^+$. Then $D = s \odot p = r \odot B^{-1} (r \odot
    \bar a^+)$ with the factor at hand, $\lambda p = \bar a^+ - K D$, and

    $$\bar f = -(1 - 2\mu) \odot (f^+ - f) \odot D, \qquad
      \bar K \mathrel{-}= D (a^+)^\top, \qquad
      \bar\lambda \mathrel{-}= \langle \bar a^+ - K D, a^+ \rangle / \lambda.$$

    $f = K a$ passes it on to the step before: $\bar a = K \bar f$, $\bar K \mathrel{+}= \bar f a^\top$. At
    the ends stand $w = X^\top a$, so $\bar a = X \bar w$ and $\bar X = a \bar w^\top$, and $K = X X^\top$,
    so $\bar X \mathrel{+}= (\bar K + \bar K^\top) X$. The gradient is exact for the steps taken, converged or
    not.

    The steps have no safeguard. Where classes overlap and $\lambda$ is far below the squared length of the
    embeddings, they may leave for anywhere: outputs and gradients stay finite, but mean nothing.

    Calibration and parameters are those of `LinearHead`.
    """

    def weights(self, x: Array, y: Array, reg_lambda: Array) -> tuple[Array, Any]:
        """See `LinearHead.weights`."""
        gram, y = x @ x.mT, y.mT
        a = f = kernels_of(x).xp.zeros_like(y[..., :1, :])  # all classes start alike and share a first system
        steps = []
        for _ in range(self.steps):
            step = _newton_step(gram, y, reg_lambda, a, f)
            steps.append(step)
            a, f = step.a_next, step.f_next
        return a @ x, (x, gram, reg_lambda, steps)

    def weights_vjp(self, residuals: Any, g_weight: Array) -> tuple[Array, Array]:
        """See `LinearHead.weights_vjp`."""
        x, gram, reg_lambda, steps = residuals
        kernels = kernels_of(x)
        gx = steps[-1].a_next.mT @ g_weight
        ga = g_weight @ x.mT
        g_gram: Array = 0
        g_lambda: Array = 0
        for step in reversed(steps):
            d = step.root * _solve(step.factor, step.root * ga)
            g_lambda = g_lambda - kernels.sum(ga - d @ gram, (-2, -1), times=step.a_next) / reg_lambda
            gf = -(1 - 2 * step.probability) * (step.f_next - step.f) * d
            g_gram = g_gram - d.mT @ step.a_next
            if step is not steps[0]:  # which starts from zero, whatever the embeddings
                g_gram = g_gram + gf.mT @ step.a
                ga = gf @ gram
        return gx + (g_gram + g_gram.mT) @ x, g_lambda


class NewtonStep(NamedTuple):
    r"""A step and what its pullback needs, in the symbols of `LogisticHead`: rows are classes, ``(T, o, N)``.

    Attributes:
        a: $a$.
        f: $f$.
        a_next: $a^+$.
        f_next: $f^+$.
        probability: $\mu$.
        root: $r$.
        factor: The Cholesky factor of $B$, ``(T, o, N, N)``.
    """

    a: Array
    f: Array
    a_next: Array
    f_next: Array
    probability: Array
    root: Array
    factor: Array


def _newton_step(gram: Array, y: Array, reg_lambda: Array, a: Array, f: Array) -> NewtonStep:
    kernels = kernels_of(gram)
    xp = kernels.xp
    f = xp.clip(f, -SATURATED, SATURATED)
    up, down = xp.exp(f / 2), xp.exp(-f / 2)
    root = 1 / (up + down)
    system = root[..., :, None] * gram[..., None, :, :] * root[..., None, :]
    factor = kernels.cholesky(raise_diagonal(system, reg_lambda[..., None]))
    a_next = root * _solve(factor, root * f + y * down - (1 - y) * up)
    return NewtonStep(a, f, a_next, a_next @ gram, up * root, root, factor)


def _solve(factor: Array, rows: Array) -> Array:
    """Solve a system a class, ``(T, o, N, N)``, or one for all, ``(T, 1, N, N)``, for rows ``(T, o, N)``."""
    kernels = kernels_of(rows)
    if factor.shape[-3] == 1:
        return kernels.cholesky_solve(factor[..., 0, :, :], rows.mT).mT
    return kernels.cholesky_solve(factor, rows[..., None])[..., 0]
