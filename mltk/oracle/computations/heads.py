"""The heads of metric and closed-form learners, and the functions that they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from mltk import heads, ops, tree
from mltk.arguments import check_params
from mltk.contracts import Backend
from mltk.heads import pairwise_cosine_similarity, pairwise_sqeuclidean, ridge_regression
from mltk.heads.similarity import centred, cosine_pullback, normalize, sqeuclidean_pullback
from mltk.ops.loss import mean_over_tasks
from mltk.ops.one_hot import one_hot
from mltk.oracle.case import Values
from mltk.oracle.computation import Computation
from mltk.oracle.computations import random_heads
from mltk.oracle.definitions import heads as exact
from mltk.oracle.definitions import linear_heads, metric_heads
from mltk.oracle.routes import both, episode_of
from mltk.tree import Array, Tree

Pullback = Callable[..., Sequence[Array]]
"""From a cotangent, or several, to those of the arguments."""

CALIBRATION = ("scale", "bias", "log_lambda")
"""What ridge and logistic regression may learn."""

OUTPUTS = {
    "logits": "for the queries (T, M, ways); of regression the outputs (T, M, o)",
    "loss": "the cross-entropy, or mean squared error, averaged over tasks and queries: ()",
    "gradients": "its gradient for support_x (T, N, d), query_x (T, M, d) and the head's parameters",
}
SIGNATURE = (
    "(params, data, settings): params those of the head, data.support_x and query_x embeddings (T, N, d) and "
    "(T, M, d), data.support_y and query_y labels or values, settings.ways (None for regression)"
)


def head_of(kind: type[heads.Head], settings: Mapping[str, Any], inputs: Values) -> heads.Head:
    """The head of a case: of its settings, and of what it learns, which are the parameters that are there."""
    own = {name: value for name, value in settings.items() if name != "ways"}
    if "scale" in own:
        params = inputs.get("params", {})
        own |= {f"learn_{name.removeprefix('log_')}": name in params for name in CALIBRATION}
    if kind is heads.FullContextMatchingHead:
        own["features"] = inputs["support_x"].shape[-1]
    return kind(**own)


def compute_head(
    kind: type[heads.Head], backend: Backend, settings: Mapping[str, Any], inputs: Values
) -> Values:
    """Logits, loss and gradients of a head on embeddings."""
    head = head_of(kind, settings, inputs)
    p = {name: backend.asarray(value) for name, value in inputs.get("params", {}).items()}
    p = tree.unflatten(p)
    episode = episode_of(backend, settings, inputs)
    check_params("params", p, head.shapes, backend)
    support, query, ways = episode.support_x, episode.query_x, episode.ways
    target = episode.support_y if ways is None else one_hot(episode.support_y, ways, support)
    logits, pull_back = backend.engine.head(head, p, support, target, query)
    loss = ops.loss("mse" if ways is None else "cross_entropy")
    wanted = {"target": episode.query_y}
    value, residuals = loss.forward(wanted, logits)
    _, cotangent = loss.vjp(wanted, residuals, 1.0)
    gp, g_support, g_query = pull_back(cotangent)
    tasks = support.shape[0]
    gradients = {
        "support_x": g_support / tasks,
        "query_x": g_query / tasks,
        **tree.flatten(tree.map(mean_over_tasks, gp)),
    }
    return {"logits": logits, "loss": mean_over_tasks(value), "gradients": gradients}


def pulled_back(
    backend: Backend,
    function: Callable[..., Sequence[Array]],
    pullback: Pullback,
    leaves: Mapping[str, Array],
    cotangents: Sequence[Array],
) -> tuple[list[Array], Tree]:
    """The outputs of a public function of mltk, and the cotangents of its arguments.

    Args:
        backend: By autograd if that is its engine, else by hand.
        function: Of the leaves under their names.
        pullback: By hand: from the leaves and the cotangents to those of the leaves.
        leaves: The arguments.
        cotangents: Those of the outputs.
    """
    if backend.engine.name != "autograd":
        outputs = list(function(**leaves))
        return outputs, dict(zip(leaves, pullback(*cotangents, **leaves), strict=True))
    import torch

    variables = {name: leaf.clone().requires_grad_() for name, leaf in leaves.items()}
    outputs = list(function(**variables))
    used = [(y, g) for y, g in zip(outputs, cotangents, strict=True) if y.requires_grad]
    found = torch.autograd.grad([y for y, _ in used], list(variables.values()), [g for _, g in used])
    return [y.detach() for y in outputs], dict(zip(variables, found, strict=True))


def compute_ridge_regression(backend: Backend, settings: Mapping[str, Any], inputs: Values) -> Values:
    """Weight and bias of `mltk.ridge_regression`, and the cotangents of the embeddings and of λ."""
    arrays = {name: backend.asarray(value) for name, value in inputs.items() if name != "params"}
    leaves = {"embeddings": arrays["embeddings"]}
    if "params" in inputs:
        leaves["reg_lambda"] = backend.asarray(inputs["params"]["reg_lambda"])
    scale, form, intercept = (settings[name] for name in ("scale", "use_woodbury", "bias"))

    def solve(embeddings: Array, reg_lambda: Any = None) -> Sequence[Array]:
        return ridge_regression(
            embeddings,
            arrays["targets"],
            settings["reg_lambda"] if reg_lambda is None else reg_lambda,
            ways=settings["ways"],
            use_woodbury=form,
            bias=intercept,
            scale=scale,
        )

    def by_hand(g_weight: Array, g_bias: Array, embeddings: Array, reg_lambda: Any = None) -> Sequence[Array]:
        head = heads.RidgeHead(use_woodbury=form, intercept=intercept)
        y = arrays["targets"]
        target = y if settings["ways"] is None else one_hot(y, settings["ways"], embeddings)
        strength = backend.asarray(settings["reg_lambda"]) if reg_lambda is None else reg_lambda
        solved = head.solve(embeddings, target, strength)
        gx, g_lambda = head.solve_vjp(solved, scale * g_weight, scale * g_bias if intercept else None)
        if reg_lambda is None:
            return (gx,)
        return gx, g_lambda if reg_lambda.shape else backend.xp.sum(g_lambda)

    (weight, bias), gradients = pulled_back(
        backend, solve, by_hand, leaves, [arrays["g_weight"], arrays["g_bias"]]
    )
    return {"weight": weight, "bias": bias, "gradients": gradients}


def compute_pairs(
    similarity: Callable[[Array, Array], Array],
    pullback: Callable[[Array, Array, Array], Sequence[Array]],
    backend: Backend,
    settings: Mapping[str, Any],
    inputs: Values,
) -> Values:
    """The similarities of all pairs, and the cotangents of both sets."""
    a, b, gy = (backend.asarray(inputs[name]) for name in ("a", "b", "gy"))
    (value,), gradients = pulled_back(
        backend,
        lambda a, b: [similarity(a, b)],
        lambda gy, a, b: pullback(a, b, gy),
        {"a": a, "b": b},
        [gy],
    )
    return {"value": value, "gradients": gradients}


def _sqeuclidean_pullback(a: Array, b: Array, gy: Array) -> Sequence[Array]:
    return sqeuclidean_pullback(*centred(a, b), gy)


def _cosine_pullback(a: Array, b: Array, gy: Array) -> Sequence[Array]:
    return cosine_pullback(normalize(a), normalize(b), gy)


def _head(name: str, summary: str, kind: type[heads.Head], logits: exact.Logits, **more: Any) -> Computation:
    return Computation(
        name,
        summary,
        OUTPUTS,
        both(partial(compute_head, kind)),
        exact.truth(exact.judged(logits)),
        signature=SIGNATURE,
        differentiable=True,
        **more,
    )


def _pairs(name: str, summary: str, **more: Any) -> Computation:
    return Computation(
        f"pairwise-{name}",
        summary,
        {"value": "(T, M, N)", "gradients": "what gy, the cotangent of the value, pulls back to: a and b"},
        signature="(params, data, settings): data.a (T, M, d), data.b (T, N, d), data.gy (T, M, N)",
        **more,
    )


COMPUTATIONS = (
    _head(
        "prototypical",
        "Prototypical networks on embeddings (Snell, Swersky & Zemel 2017, equations 1 and 2).",
        heads.PrototypicalHead,
        metric_heads.prototypical,
        random=random_heads.random_prototypical,
    ),
    _head(
        "matching",
        "Matching networks on embeddings (Vinyals et al. 2016, equation 1).",
        heads.MatchingHead,
        metric_heads.matching,
        random=random_heads.random_matching,
    ),
    _head(
        "matching-full-context",
        "Matching networks with full context embeddings (Vinyals et al. 2016, appendix A).",
        heads.FullContextMatchingHead,
        metric_heads.full_context,
        random=random_heads.random_full_context,
    ),
    _head(
        "ridge",
        "Ridge regression on embeddings: R2-D2 (Bertinetto et al. 2019, section 3.2).",
        heads.RidgeHead,
        linear_heads.ridge,
        random=random_heads.random_ridge,
    ),
    _head(
        "logistic",
        "Logistic regression on embeddings by Newton steps: LR-D2 (Bertinetto et al. 2019, section 3.3).",
        heads.LogisticHead,
        linear_heads.logistic,
        random=random_heads.random_logistic,
    ),
    Computation(
        "ridge-regression",
        "The closed-form solver: least squares with λ‖W‖² added (Bertinetto et al. 2019, section 3.2).",
        {
            "weight": "(T, o, d), times the scale",
            "bias": "(T, o), times the scale; zero without an intercept",
            "gradients": "what g_weight and g_bias, cotangents of both, pull back to: embeddings, reg_lambda",
        },
        both(compute_ridge_regression),
        exact.truth(exact.ridge_regression),
        random_heads.random_ridge_regression,
        "(params, data, settings): params['reg_lambda'] () or (T,) where settings.reg_lambda is None, "
        "data.embeddings (T, N, d), data.targets values (T, N, o) or labels (T, N) if settings.ways is not "
        "None, data.g_weight, data.g_bias",
    ),
    _pairs(
        "sqeuclidean",
        "Squared Euclidean distances of all pairs of two sets of vectors.",
        routes=both(partial(compute_pairs, pairwise_sqeuclidean, _sqeuclidean_pullback)),
        exact=exact.truth(exact.pairs),
        random=random_heads.random_sqeuclidean,
    ),
    _pairs(
        "cosine-similarity",
        "Cosines of all pairs of two sets of vectors; zero, with zero gradients, for vectors of zero.",
        routes=both(partial(compute_pairs, pairwise_cosine_similarity, _cosine_pullback)),
        exact=exact.truth(exact.pairs),
        random=random_heads.random_cosine,
    ),
)
