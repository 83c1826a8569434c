r"""How well features, or the classes of another task, suit the classes of a task.

Labels are $y_i$ of $K$ classes, one-hot $t_i$, with $n_k$ of the $N$ examples of class $k$.

**LEEP** (Nguyen, Hassner, Seeger & Archambeau 2020), with the probabilities $\theta_{iz}$ of source classes
$z$, and $\hat P(k, z) = \tfrac1N \sum_i t_{ik} \theta_{iz}$:

$$\text{LEEP} = \frac1N \sum_i \log \sum_z \hat P(y_i \mid z) \, \theta_{iz} \le 0.$$

**NCE** (Tran, Nguyen & Hassner 2019) is the same with the most probable source class in place of its
probabilities, $-H(Y \mid Z) = \sum_{k, z} \hat P(k, z) \log \hat P(k \mid z)$.

**H-score** (Bao et al. 2019), $\operatorname{tr}(\Sigma^{-1} \Sigma_{E})$ of the covariance $\Sigma$ of the
features and that of their class means $\Sigma_E$. Where features outnumber examples it is the constant
$K - 1$, whatever they are; with shrinkage (Ibrahim, Ponomareva & Mazumder 2022)

$$H_\alpha = (1 - \alpha) \operatorname{tr}(\Sigma_\alpha^{-1} \Sigma_E), \qquad
  \Sigma_\alpha = (1 - \alpha) \Sigma + \alpha \tfrac{\operatorname{tr} \Sigma}{d} I,$$

and the $\alpha$ of Ledoit & Wolf (2004). All covariances divide by $N$. With the Gram matrix
$G = X X^\top$ of the centred features and $P$, which takes examples to their class means, it is
$\tfrac{1 - \alpha}{N} \operatorname{tr}\big( (\tfrac{1 - \alpha}{N} G + \alpha \tfrac{\operatorname{tr}
\Sigma}{d} I)^{-1} G P \big)$, and
$\alpha = \min\big(1, \tfrac{\tfrac1N \sum_i \|x_i\|^4 - \|\Sigma\|^2}{N (\|\Sigma\|^2 - (\operatorname{tr}
\Sigma)^2 / d)}\big)$ with $\|\Sigma\| = \|G\| / N$: nothing is as large as the features are long.

**TransRate** (Huang, Huang, Rong, Yang & Wei 2022): the coding rate of the centred features less that within
classes, with $R(G, n) = \tfrac12 \log\det(I + G / (n \varepsilon))$,

$$\text{TransRate} = R(G, N) - \sum_k \tfrac{n_k}{N} R(G_k, n_k).$$

Public code averages the classes alike, which is the same where they have equally many examples.

**LogME** (You, Liu, Wang & Long 2021): the largest log evidence of a Bayesian linear regression of each
class's one-hot targets on the features, by example and averaged over the classes. It is that of
`mltk.heads.evidence`, which is exact also where features outnumber examples, as public code is not.
"""

from __future__ import annotations

from mltk.checks import check_scale, check_switch
from mltk.heads.evidence import evidence
from mltk.ops.kernels import kernels_of
from mltk.ops.one_hot import one_hot
from mltk.task_analysis.class_means import probabilities
from mltk.task_analysis.features import labelled, without_scale
from mltk.tree import Array

RANK = 1e-13
"""Eigenvalues below this part of the largest one, times the number of examples, count as zero."""

NOTHING = 1e-300
"""In place of a probability or a scatter of zero, which is divided by only where the product is zero."""


def leep(source_logits: Array, labels: Array, *, ways: int) -> Array:
    """The log expected empirical prediction: see `mltk.task_analysis.transferability`.

    Args:
        source_logits: Logits of source classes for each example, ``(T, N, Z)``, of any backend.
        labels: Their labels ``(T, N)``.
        ways: Classes a task.

    Returns:
        ``(T,)`` in double precision; 0 is best.

    Raises:
        MltkError: As `mltk.task_analysis.features.labelled`.
    """
    logits, target = labelled(source_logits, labels, ways, name="source_logits")
    return _log_expected(probabilities(logits), target)


def nce(source_logits: Array, labels: Array, *, ways: int) -> Array:
    """The negative conditional entropy: see `mltk.task_analysis.transferability`.

    Args:
        source_logits: Logits of source classes for each example, ``(T, N, Z)``, of any backend; the first of
            the largest ones counts.
        labels: Their labels ``(T, N)``.
        ways: Classes a task.

    Returns:
        ``(T,)`` in double precision; 0 is best.

    Raises:
        MltkError: As `mltk.task_analysis.features.labelled`.
    """
    logits, target = labelled(source_logits, labels, ways, name="source_logits")
    xp = kernels_of(logits).xp
    return _log_expected(one_hot(xp.argmax(logits, axis=-1), logits.shape[-1], logits), target)


def h_score(features: Array, labels: Array, *, ways: int, shrink: bool = True) -> Array:
    """The H-score: see `mltk.task_analysis.transferability`.

    Args:
        features: Vectors ``(T, N, d)``, of any backend.
        labels: Their labels ``(T, N)``.
        ways: Classes a task.
        shrink: Whether the covariance is shrunk; without it the pseudo-inverse is taken.

    Returns:
        ``(T,)`` in double precision, from 0 to K − 1.

    Raises:
        SettingError: If ``shrink`` is no bool.
        MltkError: As `mltk.task_analysis.features.labelled`.
    """
    check_switch("shrink", shrink)
    x, target = labelled(features, labels, ways)
    kernels, examples = kernels_of(x), x.shape[-2]
    xp, gram = kernels.xp, _gram(without_scale(x))
    lengths = xp.linalg.diagonal(gram)
    trace = xp.sum(lengths, axis=-1) / examples
    squares = kernels.sum(gram, (-2, -1), times=gram) / examples**2
    spread = squares - trace**2 / x.shape[-1]
    spread = xp.where(spread > RANK * squares, spread, 0.0)  # zero: there is nothing to shrink to
    noise = kernels.at_least(xp.mean(lengths**2, axis=-1) - squares, 0) / examples
    shrunk = xp.where(spread > noise, noise / xp.where(spread > 0, spread, 1.0), 1.0)
    alpha = xp.where(spread > 0, shrunk, 0.0) * int(shrink)
    ridge = (alpha * trace / x.shape[-1])[..., None]
    kept = (1 - alpha)[..., None] / examples
    eigenvalues, vectors = _spectrum(gram)
    inverse = eigenvalues / xp.where(eigenvalues > 0, kept * eigenvalues + ridge, 1.0)
    means = target.mT @ vectors
    counts = kernels.at_least(xp.sum(target, axis=-2), 1)[..., None]
    return xp.sum(kept * inverse * xp.sum(means**2 / counts, axis=-2), axis=-1)


def transrate(features: Array, labels: Array, *, ways: int, epsilon: float = 1e-4) -> Array:
    r"""TransRate: see `mltk.task_analysis.transferability`.

    Args:
        features: Vectors ``(T, N, d)``, of any backend; it depends on their scale.
        labels: Their labels ``(T, N)``.
        ways: Classes a task.
        epsilon: $\varepsilon$, the squared distortion.

    Returns:
        ``(T,)`` in double precision.

    Raises:
        SettingError: If ``epsilon`` is not positive.
        MltkError: As `mltk.task_analysis.features.labelled`.
    """
    check_scale("epsilon", epsilon, positive=True)
    x, target = labelled(features, labels, ways)
    xp, gram = kernels_of(x).xp, _gram(x)
    counts = xp.sum(target, axis=-2, keepdims=True)
    own = target @ counts.mT  # how many examples the class of each has
    whole = xp.sum(xp.log1p(_spectrum(gram)[0] / (epsilon * x.shape[-2])), axis=-1)
    # The matrix of all classes side by side: each eigenvector belongs to one class, or to equal eigenvalues.
    eigenvalues, vectors = _spectrum(gram * (target @ target.mT) / own)
    shares = xp.sum(vectors**2 * own, axis=-2) / x.shape[-2]
    return (whole - xp.sum(shares * xp.log1p(eigenvalues / epsilon), axis=-1)) / 2


def logme(features: Array, labels: Array, *, ways: int) -> Array:
    """The log evidence by example, averaged over the classes: see `mltk.task_analysis.transferability`.

    Args:
        features: Vectors ``(T, N, d)``, of any backend.
        labels: Their labels ``(T, N)``; classes without an example do not count.
        ways: Classes a task.

    Returns:
        ``(T,)`` in double precision.

    Raises:
        MltkError: As `mltk.task_analysis.features.labelled`.
    """
    x, target = labelled(features, labels, ways)
    xp = kernels_of(x).xp
    found = evidence(without_scale(x), target).log_evidence
    there = xp.astype(xp.max(target, axis=-2) > 0, x.dtype)
    return xp.sum(there * found, axis=-1) / xp.sum(there, axis=-1) / x.shape[-2]


def _log_expected(theta: Array, target: Array) -> Array:
    """LEEP of probabilities ``(T, N, Z)`` of source classes."""
    xp = kernels_of(theta).xp
    together = target.mT @ theta
    alone = xp.sum(together, axis=-2, keepdims=True)
    given = together / xp.maximum(alone, NOTHING * xp.ones_like(alone))
    return xp.mean(xp.log(xp.sum((target @ given) * theta, axis=-1)), axis=-1)


def _gram(x: Array) -> Array:
    """The inner products of features less their mean, ``(T, N, N)``."""
    xp = kernels_of(x).xp
    x = x - x[..., :1, :]  # constant features are zeros, whatever they are
    x = x - xp.mean(x, axis=-2, keepdims=True)
    return x @ x.mT


def _spectrum(gram: Array) -> tuple[Array, Array]:
    """Eigenvalues, none negative and what rounding left of zero set to it, and eigenvectors."""
    xp = kernels_of(gram).xp
    eigenvalues, vectors = xp.linalg.eigh(gram)
    least = RANK * gram.shape[-1] * eigenvalues[..., -1:]
    return xp.where(eigenvalues > least, eigenvalues, 0.0), vectors
