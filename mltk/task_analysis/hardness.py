r"""The hardness of a task, by features that need not know the learner.

Dhillon, Chaudhari, Ravichandran & Soatto (2020, *A baseline for few-shot image classification*) take the
features $z(x)$ of a generic network, its logits. With $z_+ = \max(z, 0)$, the weight of class $k$ is the mean
of $z_+$ over the class's support examples, divided by its length (equation 6), and a query's logits are
cosines (equation 7), here over a temperature $\tau$, which is 1 in the paper:

$$w_k = \bar z_{k+} / \|\bar z_{k+}\|, \qquad
  s_k(x) = \frac{1}{\tau} \Big\langle w_k, \frac{z_+(x)}{\|z_+(x)\|} \Big\rangle, \qquad
  p = \operatorname{softmax}(s).$$

Hardness is the mean over the queries of the log-odds against the right class (equation 9),

$$\Omega = \frac{1}{M} \sum_{(x, y)} \log \frac{1 - p(y \mid x)}{p(y \mid x)}
  = \log(K - 1) + \frac{1}{M} \sum_{(x, y)} \log \frac{1}{K - 1} \sum_{k \ne y} e^{s_k(x) - s_y(x)}.$$

The right side is how it is computed: no $1 - p$ underflows, and features that tell nothing give
$\log(K - 1)$ exactly. With the shares $r_k = e^{s_k} / \sum_{j \ne y} e^{s_j}$ for $k \ne y$, and $r_y = -1$,
the gradient is $\bar s = r / M$, which the rules of `mltk.heads.PrototypicalHead`, on $z_+$, pull back.

Cosines lie between 0 and 1 where the features are rectified, so $|\Omega - \log(K - 1)| \le 1 / \tau$; with
``relu_queries=False`` between −1 and 1, and the bound is $2 / \tau$.
"""

from __future__ import annotations

import math
from typing import Any

from mltk.arguments import check_label_of_each, check_labels, check_support_labels, check_values, host_values
from mltk.backend import common_backend
from mltk.checks import check_count, check_scale, check_switch
from mltk.episode import Episode
from mltk.errors import SettingError, ShapeError
from mltk.heads.prototypes import PrototypicalHead
from mltk.ops.kernels import kernels_of
from mltk.ops.one_hot import one_hot
from mltk.task_analysis.features import Features, check_vectors, embedded
from mltk.tree import Array


def hardness_metric(
    episode: Episode,
    num_classes: int,
    *,
    features: Features = None,
    temperature: float = 1.0,
    relative: bool = False,
    relu_queries: bool = True,
) -> Array:
    r"""How hard the tasks of an episode are: the mean log-odds against the right class of a query.

    Dhillon, Chaudhari, Ravichandran & Soatto (2020), equation 9; the formulas stand with
    `mltk.task_analysis.hardness`. It needs the labels of the queries. Without a temperature it lies within
    one of $\log(K - 1)$, and the cosines of features that are all positive lie close together: a temperature
    of 0.1 spreads the tasks further apart.

    On Torch it can be differentiated; `hardness_value_and_grad` gives the gradient by hand, on any backend.

    Args:
        episode: Tasks of classification.
        num_classes: $K$, their ways, at least 2.
        features: A function from inputs ``(T, N, *features)`` to vectors ``(T, N, d)``; a pair of a model and
            its parameters, which may be the meta-parameters of a learner with this model; or ``None`` for the
            inputs themselves, flattened.
        temperature: $\tau$, which cosines are divided by.
        relative: Subtract $\log(K - 1)$, the hardness of features that tell nothing, so that tasks of
            different ways can be compared.
        relu_queries: Rectify the features of the queries too, as equation 7 does. Without it the values are
            those of ``torchmeta.utils.metrics.hardness_metric`` for the same features.

    Returns:
        An array ``(T,)`` of the episode's backend; more is harder.

    Raises:
        SettingError: If the episode is regression, ``num_classes`` is not its ways, or a setting is not
            valid.
        ShapeError: If there is not one label an example, or features are not vectors.
        MltkError: If the episode is not valid, or the features do not fit it.

    Examples:
        >>> import mltk
        >>> tasks = mltk.data.Blobs(ways=5, shots=1, queries=5, separation=4)
        >>> episode = tasks.sample(3, 0, mltk.backend("numpy"))
        >>> mltk.hardness_metric(episode, num_classes=5).shape
        (3,)
        >>> uninformative = mltk.hardness_metric(episode, 5, features=lambda x: 0 * x, relative=True)
        >>> print(uninformative)
        [0. 0. 0.]
    """
    check_classification(episode)
    check_count("num_classes", num_classes, at_least=2)
    if num_classes != episode.ways:
        raise SettingError(f"num_classes is {num_classes}; expected the ways of the episode, {episode.ways}")
    check_switch("relative", relative)
    support, query = embedded(episode, features)
    value, _ = _forward(
        support, episode.support_y, query, episode.query_y, num_classes, temperature, relu_queries
    )
    return value if relative else value + math.log(num_classes - 1)


def hardness_value_and_grad(
    support: Array,
    support_y: Array,
    query: Array,
    query_y: Array,
    *,
    ways: int,
    temperature: float = 1.0,
    relu_queries: bool = True,
) -> tuple[Array, Array, Array]:
    r"""`hardness_metric` of features at hand, and its gradient with respect to them, by hand.

    Args:
        support: Features $z$ of the support examples, ``(T, N, d)``, of any backend.
        support_y: Their labels ``(T, N)``.
        query: Features of the queries, ``(T, M, d)``.
        query_y: Their labels ``(T, M)``.
        ways: $K$, at least 2.
        temperature: $\tau$.
        relu_queries: Whether the features of the queries are rectified.

    Returns:
        The hardness ``(T,)``, and its gradients with the shapes of ``support`` and ``query``.

    Raises:
        ShapeError: If the arrays do not fit each other, or are empty.
        DtypeError: If features are not floating, or labels not integers.
        LabelError: If, on the host, a label lies outside ``0..ways-1`` or a class has no support example.
        MismatchError: If the arrays differ in library, device or floating dtype.
        SettingError: If a setting is not valid.
    """
    check_count("ways", ways, at_least=2)
    backend = common_backend(support=[support, support_y], query=[query, query_y])
    check_vectors(backend, "support", support)
    check_vectors(backend, "query", query, like=support)
    for name, labels, x, check in (
        ("support_y", support_y, support, check_support_labels),
        ("query_y", query_y, query, check_labels),
    ):
        check_label_of_each(backend, name, labels, x)
        if (known := host_values(backend, labels)) is not None:
            check(name, known, ways)
    value, (shares, residuals, slopes) = _forward(
        support, support_y, query, query_y, ways, temperature, relu_queries
    )
    _, g_support, g_query = _head(temperature).vjp({}, residuals, shares / query.shape[1])
    return value + math.log(ways - 1), g_support * slopes[0], g_query * slopes[1]


def check_classification(episode: Episode) -> None:
    """Raise unless an episode is valid, and classification with one label an example."""
    check_values(episode)
    if episode.ways is None:
        raise SettingError("episode is regression (its ways is None); expected tasks of classification")
    if episode.support_y.ndim != 2:
        found = tuple(episode.support_y.shape)
        raise ShapeError(f"support_y has shape {found}; expected one label an example, (T, N)")


def _head(temperature: float) -> PrototypicalHead:
    check_scale("temperature", temperature, positive=True)
    return PrototypicalHead(distance="cosine", temperature=temperature)


def _forward(
    support: Array,
    support_y: Array,
    query: Array,
    query_y: Array,
    ways: int,
    temperature: float,
    relu_queries: bool,
) -> tuple[Array, Any]:
    """The hardness relative to log(K - 1), and what its pullback needs."""
    check_switch("relu_queries", relu_queries)
    kernels, head = kernels_of(query), _head(temperature)
    xp = kernels.xp
    least = float(xp.finfo(query.dtype).smallest_normal) ** 0.5
    if temperature < least:  # then cosines over it, or sums of them, may be infinite
        raise SettingError(f"temperature is {temperature}; expected at least {least:.1g} for {query.dtype}")
    rectified, slope = kernels.relu(support)
    asked, query_slope = kernels.relu(query) if relu_queries else (query, 1.0)
    logits, residuals = head.forward({}, rectified, one_hot(support_y, ways, support), asked)
    right = one_hot(query_y, ways, logits)
    against = logits - xp.sum(right * logits, axis=-1, keepdims=True)
    against = xp.where(right > 0, -math.inf * xp.ones_like(against), against)
    largest = xp.max(against, axis=-1, keepdims=True)
    exponentials = xp.exp(against - largest)
    total = xp.sum(exponentials, axis=-1, keepdims=True)
    log_odds = largest + xp.log(total / (ways - 1))
    value = xp.mean(log_odds[..., 0], axis=-1)
    return value, (exponentials / total - right, residuals, (slope, query_slope))
