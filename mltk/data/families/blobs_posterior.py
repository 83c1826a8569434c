r"""What a support set tells of the class of a query, where the class means are a turned simplex: exactly.

The means are $\mu_j = c + F v_j$, with a Gaussian centre $c \sim N(0, \gamma^2 I)$, the vertices $v_j$ of a
simplex in $m = k - 1$ dimensions and $F$ uniform over the frames of $m$ orthonormal columns in $d$. As
$\lVert F v \rVert = \lVert v \rVert$, the likelihood of $n$ examples of which each is put into a class,
the query among them, depends on $F$ by an exponential of a linear function, once $c$ is integrated out. With
$S = \sum_i x_i$, $t = \sum_i v_{y_i}$ and $\kappa = \gamma^2 / (1 + n \gamma^2)$ it is proportional to

$$e^{\kappa \lVert t \rVert^2 / 2} \; \mathbb E_F \, e^{\operatorname{tr} M^\top F}, \qquad
  M = \sum_i x_i v_{y_i}^\top - \kappa S t^\top, \qquad
  \mathbb E_F \, e^{\operatorname{tr} M^\top F} = {}_0F_1(d/2; M^\top M / 4)$$

(James 1964; the query's class is the one that differs). This function of the eigenvalues
$x_1 \ldots x_m$ of $M^\top M / 4$ solves, with $a = d/2$ (Muirhead 1970), for each $i$

$$x_i \partial_i^2 F + \Bigl(a - \tfrac{m-1}2\Bigr) \partial_i F
  + \tfrac12 \sum_{j \ne i} \frac{x_i \partial_i F - x_j \partial_j F}{x_i - x_j} = F.$$

So the $2^m$ numbers $G_J = x_J \partial_J F$, a derivative for each set $J$ of eigenvalues times their
product, are closed under further ones (Hashiguchi, Numata, Takayama & Takemura 2013 for its relative
${}_1F_1$), and on the ray $s x$ they obey $s \, dG/ds = (A + s B) G$. Its power series, $(k - A) G^{(k)} = B
G^{(k-1)}$, has $G^{(k)}_\emptyset > 0$: nothing cancels in the sum.
"""

from __future__ import annotations

import numpy as np

APART = 1e-3
"""Eigenvalues are moved apart, symmetrically, by this share of the largest: an error of its square."""

TOGETHER = 128
"""Matrices at once."""


def log_class_evidence(
    support_x: np.ndarray, labels: np.ndarray, query_x: np.ndarray, vertices: np.ndarray, centre: float
) -> np.ndarray:
    """The log-likelihood of support set and query, if the query is of each class, up to a constant of it.

    Args:
        support_x: Inputs ``(T, N, d)``, float64.
        labels: Their classes ``(T, N)``.
        query_x: Inputs ``(T, M, d)``.
        vertices: Those of the simplex, ``(ways, ways - 1)``.
        centre: Standard deviation of a coordinate of the centre.

    Returns:
        ``(T, M, ways)``.
    """
    shrink = centre**2 / (1 + (support_x.shape[1] + 1) * centre**2)
    placed = vertices[labels]
    total = (support_x.sum(axis=1)[:, None] + query_x)[:, :, None, :, None]
    t = (placed.sum(axis=1)[:, None] + vertices)[:, None, :, None, :]
    both = (support_x.mT @ placed)[:, None, None] + query_x[:, :, None, :, None] * vertices[:, None, :]
    scales = np.linalg.svd(both - shrink * total * t, compute_uv=False)
    flat = scales.reshape(-1, scales.shape[-1])
    parts = [
        log_mean_exponential(flat[i : i + TOGETHER], support_x.shape[-1])
        for i in range(0, len(flat), TOGETHER)
    ]
    evidence = np.concatenate(parts).reshape(scales.shape[:-1])
    evidence += shrink / 2 * np.sum(t[..., 0, :] ** 2, axis=-1)
    return evidence


def log_mean_exponential(scales: np.ndarray, features: int) -> np.ndarray:
    r"""$\log \mathbb E_F \, e^{\operatorname{tr} M^\top F}$ over uniform frames $F$.

    Args:
        scales: The singular values of $M$ in falling order, ``(B, m)``.
        features: The length $d$ of the columns of $F$, more than ``m`` unless that is 1.

    Returns:
        ``(B,)``.
    """
    x = scales**2 / 4
    size = APART * np.maximum(x[:, :1], 1e-9)
    close = np.abs(x[:, :, None] - x[:, None, :]) < size[:, :, None]
    x = x + size * np.sum(close * np.sign(np.arange(x.shape[1]) - np.arange(x.shape[1])[:, None]), axis=2)
    a, b = _on_the_ray(x, features / 2)
    term = np.zeros((len(x), a.shape[-1], 1))
    term[:, 0] = 1
    log_sum, k, peak = np.zeros(len(x)), 0, scales.sum(axis=1).max() / 2
    while k <= peak or (term[:, 0] > 1e-17).any():
        k += 1
        term = np.linalg.solve(k * np.eye(a.shape[-1]) - a, b @ term)
        growth = 1 + term[:, :1]
        log_sum += np.log(growth[:, 0, 0])
        term /= growth  # in units of the sum so far
    return log_sum


def _on_the_ray(x: np.ndarray, a: float) -> tuple[np.ndarray, np.ndarray]:
    """$A$ and $B$, ``(T, 2^m, 2^m)``; bit $i$ of an index says whether the set has $i$."""
    tasks, m = x.shape
    found: dict[tuple[int, int], np.ndarray] = {}

    def second(i: int, others: int) -> np.ndarray:
        """The row of $x_i x_J x_i ∂_i^2 ∂_J F$ for a set $J$ without $i$, by $∂_J$ of the equation."""
        if (i, others) in found:
            return found[i, others]
        row: np.ndarray = np.zeros((2, tasks, 2**m))
        with_i = others | 1 << i
        row[1, :, others] = x[:, i]
        row[0, :, with_i] = (m - 1) / 2 - a
        for j in set(range(m)) - {i}:
            share = x[:, i] / (x[:, i] - x[:, j]) / 2
            row[0, :, with_i] -= share
            if others >> j & 1:
                rest, slope = others ^ 1 << j, share * x[:, j] / (x[:, i] - x[:, j])
                row += share[:, None] * second(j, rest)
                row[0, :, others] += share + slope
                row[0, :, rest | 1 << i] -= slope
            else:
                row[0, :, others | 1 << j] += share
        found[i, others] = row
        return row

    rows = np.zeros((2, tasks, 2**m, 2**m))
    for index in range(2**m):
        for i in range(m):
            if index >> i & 1:
                rows[0, :, index, index] += 1
                rows[:, :, index] += second(i, index ^ 1 << i)
            else:
                rows[0, :, index, index | 1 << i] += 1
    return rows[0], rows[1]
