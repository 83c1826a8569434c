r"""Bayesian linear regression: the evidence of its prior and noise, maximised, and the predictive variance.

Targets $y = F w + \varepsilon$ (N,) with features $F$ (N, d), weights $w \sim \mathcal N(0, \alpha^{-1} I)$
and noise $\varepsilon \sim \mathcal N(0, \beta^{-1} I)$ have the log evidence (Bishop 2006, section 3.5)

$$L = \tfrac d2 \ln \alpha + \tfrac N2 \ln \beta - \tfrac12 \ln\det(\alpha I + \beta F^\top F)
  - \tfrac\beta2 \|y - F m\|^2 - \tfrac\alpha2 \|m\|^2 - \tfrac N2 \ln 2\pi.$$

The determinant is one of $d$ eigenvalues, or, with that of the covariance $\beta^{-1} I + \alpha^{-1}
F F^\top$ of $y$, one of $N$: to take $\min(N, d)$ of them beside $\tfrac d2 \ln \alpha$, as public code of
LogME does, is right only where examples outnumber features. With the singular values $\sigma_i$ of $F$, the
targets $z$ along its left singular vectors, what of them lies outside, $e$, $\lambda = \alpha / \beta$ and
$w_i = \lambda / (\sigma_i^2 + \lambda)$,

$$L = -\tfrac12 \Big( N \ln \tfrac{2\pi}\beta - \sum_i \ln w_i + \beta q \Big), \qquad
  q = \|e\|^2 + \sum_i w_i z_i^2,$$

whose maximum over $\beta$ is at $\beta = N / q$. What is left is a function of $t = \ln \lambda$ alone, with
$\gamma = \sum_i (1 - w_i)$ and $q' = \sum_i w_i (1 - w_i) z_i^2 = \lambda \|m\|^2$:

$$\frac{dL}{dt} = \tfrac12 \Big( \gamma - N \frac{q'}q \Big).$$

Its zeros are the fixed points of MacKay (1992), $\alpha = \gamma / \|m\|^2$ and
$\beta = (N - \gamma) / \|y - Fm\|^2$. There may be several, so the best of a grid is taken and refined by
bisection. $\lambda / \max \sigma_i^2$ stays within $10^{\pm 10}$: where the evidence rises towards a fit
without noise, or towards weights of zero, the bound is taken.

A prior and a noise that all $o$ outputs of a task share have the sum of their evidences, which is of the same
form: $q$ and $q'$ are then sums over outputs, and $\beta = N o / q$.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mltk.backend import common_backend
from mltk.errors import DtypeError, ShapeError
from mltk.heads.calibrated import double
from mltk.ops.kernels import kernels_of
from mltk.tree import Array

REACH = 10 * math.log(10)
"""How far the logarithm of the regulariser may be from that of the largest eigenvalue."""

GRID = 47
"""Values of it that are tried first, about one apart."""

NOISE = 1e-12
"""Of two log evidences no further apart neither is larger: that of one example is the same for all priors."""

NOTHING = 1e-200
"""In place of a sum of squares of zero."""


class Evidence(NamedTuple):
    r"""The evidence of a Bayesian linear regression at its maximum; one a task and output.

    Attributes:
        log_evidence: Per task and output, ``(T, o)``, or per task, ``(T, 1)``, as all but ``weights``.
        alpha: The precision of the prior of the weights.
        beta: The precision of the noise.
        effective: How many weights the targets determine, $\gamma$.
        weights: The posterior mean $m$, ``(T, d, o)``.
    """

    log_evidence: Array
    alpha: Array
    beta: Array
    effective: Array
    weights: Array


class Prediction(NamedTuple):
    """A Gaussian prediction of query targets, arrays ``(T, M, o)``.

    Attributes:
        mean: Of the predictive distribution.
        aleatoric: The variance of the noise, which no further example would take away.
        epistemic: The variance that comes from not knowing the weights.
    """

    mean: Array
    aleatoric: Array
    epistemic: Array


def evidence(features: Array, targets: Array, *, shared: bool = False) -> Evidence:
    """The largest evidence over prior and noise, per task and output: see `mltk.heads.evidence`.

    Args:
        features: Vectors ``(T, N, d)``, of any backend; a column of ones among them is an intercept, with the
            same prior as all others.
        targets: Numbers ``(T, N, o)``; targets that are all zero have the evidence of as good as no noise.
        shared: Whether the outputs of a task have one prior and one noise.

    Returns:
        In double precision.

    Raises:
        ShapeError: If the arrays do not fit each other, or are empty.
        DtypeError: If they are not floating.
        MismatchError: If they differ in library or device.
    """
    x, y = _checked(features=features, targets=targets)
    return _maximised(x, y, shared)[0]


def bayesian_ridge(support: Array, targets: Array, query: Array, *, shared: bool = False) -> Prediction:
    r"""Predict query targets with their variance, by prior and noise of the largest evidence.

    The posterior of the weights is $\mathcal N(m, A^{-1})$, $A = \alpha I + \beta F^\top F$, and a query $x$
    has the variance $\beta^{-1} + x^\top A^{-1} x$. With the right singular vectors $v_i$ and
    $x_\perp = x - \sum_i \langle v_i, x \rangle v_i$,

    $$x^\top A^{-1} x = \tfrac1\alpha \Big( \|x_\perp\|^2 + \sum_i w_i \langle v_i, x \rangle^2 \Big).$$

    Args:
        support: Support embeddings ``(T, N, d)``, of any backend.
        targets: Their targets ``(T, N, o)``.
        query: Query embeddings ``(T, M, d)``.
        shared: Whether the outputs of a task have one prior and one noise, as classes should.

    Raises:
        MltkError: As `evidence`.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> x = np.linspace(-1, 1, 9)[None, :, None]
        >>> near = mltk.heads.bayesian_ridge(x, 2 * x + 0.1 * (-1) ** np.arange(9)[:, None], x[:, -1:])
        >>> far = mltk.heads.bayesian_ridge(x, 2 * x + 0.1 * (-1) ** np.arange(9)[:, None], 10 * x[:, -1:])
        >>> bool(near.aleatoric[0, 0, 0] == far.aleatoric[0, 0, 0])
        True
        >>> round(float(far.epistemic[0, 0, 0] / near.epistemic[0, 0, 0]), 6)
        100.0
    """
    support, targets, query = _checked(support=support, targets=targets, query=query)
    found, kept, directions, _ = _maximised(support, targets, shared)
    kernels = kernels_of(support)
    along = query @ directions.mT
    across = query - along @ directions
    left = kernels.sum(across, (-1,), times=across, keepdims=True) + along**2 @ kept
    mean = query @ found.weights
    zeros = kernels.xp.zeros_like(mean)
    return Prediction(mean, zeros + 1 / found.beta[..., None, :], zeros + left / found.alpha[..., None, :])


def largest_evidence(x: Array, y: Array) -> tuple[Array, Array]:
    r"""Where the evidence is largest for a prior and noise that all outputs share.

    Args:
        x: Features ``(T, N, d)`` in double precision.
        y: Targets ``(T, N, o)``, likewise.

    Returns:
        $\lambda$, ``(T,)``, and the right singular vector to the largest singular value, ``(T, d)``.
    """
    _, _, directions, reg_lambda = _maximised(x, y, shared=True)
    return reg_lambda[..., 0], directions[..., 0, :]


def _maximised(x: Array, y: Array, shared: bool) -> tuple[Evidence, Array, Array, Array]:
    r"""The evidence; $w$, ``(T, r, o)``; the right singular vectors as rows; and $\lambda$, ``(T, o)``."""
    kernels, examples = kernels_of(x), x.shape[-2]
    xp = kernels.xp
    known = xp.all(xp.isfinite(x), axis=(-2, -1), keepdims=True)
    x, y = xp.where(known, x, 0.0), xp.where(known, y, math.nan)  # a decomposition of NaN fails for all tasks
    left, sizes, directions = xp.linalg.svd(x, full_matrices=False)
    along = left.mT @ y
    outside = y - left @ along
    rest, squares, outputs = kernels.sum(outside, (-2,), times=outside), along**2, 1
    if shared:
        rest, squares = (xp.sum(each, axis=-1, keepdims=True) for each in (rest, squares))
        outputs = y.shape[-1]
    eigenvalues = (sizes**2)[..., None]
    largest = xp.max(eigenvalues, axis=-2, keepdims=True)
    scale = xp.where(largest > 0, largest, 1.0)

    def kept(t: Array) -> Array:
        """$w$ for $t$ relative to the scale, ``(T, o)``."""
        regulariser = scale * xp.exp(t)[..., None, :]
        return regulariser / (eigenvalues + regulariser)

    def missed(w: Array) -> Array:
        """$q$."""
        return xp.maximum(rest + kernels.sum(w, (-2,), times=squares), NOTHING * xp.ones_like(rest))

    def value(t: Array) -> Array:
        """Twice the evidence but for a constant."""
        w = kept(t)
        return xp.sum(xp.log(w), axis=-2) - examples * xp.log(missed(w))

    def slope(t: Array) -> Array:
        w = kept(t)
        change = kernels.sum(w * (1 - w), (-2,), times=squares)
        return xp.sum(1 - w, axis=-2) - examples * change / missed(w)

    # From the largest regulariser on: where all are as good, weights are zero.
    tried = [REACH - 2 * REACH * i / (GRID - 1) + xp.zeros_like(rest) for i in range(GRID)]
    best, height = tried[0], value(tried[0])
    for t in tried[1:]:
        here = value(t)
        better = here > height + NOISE
        best, height = xp.where(better, t, best), xp.where(better, here, height)
    step = 2 * REACH / (GRID - 1)
    low, high = xp.clip(best - step, -REACH, REACH), xp.clip(best + step, -REACH, REACH)
    t = best
    for _ in range(60):
        rises = slope(t) > -1e-15 * examples  # what is flat but for rounding, as that of one example, too
        low, high = xp.where(rises, t, low), xp.where(rises, high, t)
        t = (low + high) / 2
    w = kept(t)
    q = missed(w)
    beta = examples * outputs / q
    half = xp.sum(xp.log(w), axis=-2) - examples * (math.log(2 * math.pi) - xp.log(beta) + 1)
    log_evidence = outputs * half / 2
    # σ / (σ² + λ) by w / λ: nothing is divided by an eigenvalue, which may be zero.
    reg_lambda = scale[..., 0, :] * xp.exp(t)
    solved = sizes[..., None] * along * w / reg_lambda[..., None, :]
    found = Evidence(
        log_evidence=log_evidence,
        alpha=reg_lambda * beta,
        beta=beta,
        effective=xp.sum(1 - w, axis=-2),
        weights=directions.mT @ solved,
    )
    return found, w, directions, reg_lambda


def _checked(**arrays: Array) -> list[Array]:
    """The arrays in double precision: embeddings, their targets, and maybe query embeddings."""
    backend = common_backend(**{name: [array] for name, array in arrays.items()})
    first, x = next(iter(arrays.items()))
    expected = {"targets": (*x.shape[:2], "o"), "query": (x.shape[0], "M", x.shape[-1]), first: "(T, N, d)"}
    for name, array in arrays.items():
        if not backend.xp.isdtype(array.dtype, "real floating"):
            raise DtypeError(f"{name} has dtype {array.dtype}; expected floating numbers")
        fits = {"targets": array.shape[:2] == x.shape[:2], "query": array.shape[::2] == x.shape[::2]}
        if array.ndim != 3 or 0 in array.shape or not fits.get(name, True):
            raise ShapeError(f"{name} has shape {tuple(array.shape)}; expected {expected[name]}")
    return [double(array) for array in arrays.values()]
