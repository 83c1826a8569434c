"""How like the support examples the queries are, whose labels nobody knows."""

from __future__ import annotations

from mltk.heads.calibrated import double
from mltk.heads.functions import pairwise_cosine_similarity
from mltk.ops.kernels import kernels_of
from mltk.tree import Array


def matching_similarity(support: Array, query: Array) -> Array:
    r"""The cosine of each query with the support example most like it, averaged over the queries.

    $$\frac1M \sum_m \max_n \frac{\langle f(x_m), f(x_n) \rangle}{\|f(x_m)\| \, \|f(x_n)\|},$$

    with the similarity by which a matching network (Vinyals et al. 2016, equation 1) gives its labels: a task
    whose queries are far from all that it was told of is one to be unsure of.

    Args:
        support: Features ``(T, N, d)``, of any backend.
        query: Likewise ``(T, M, d)``.

    Returns:
        ``(T,)`` in float64, from -1 to 1.

    Raises:
        MltkError: If these are no such vectors.
    """
    cosines = pairwise_cosine_similarity(double(query), double(support))
    xp = kernels_of(cosines).xp
    return xp.mean(xp.max(cosines, axis=-1), axis=-1)
