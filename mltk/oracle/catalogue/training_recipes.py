r"""The known mistakes of training recipes: normalisation, losses, regularisation and clipping left on.

The symbols are those of `mltk.oracle.catalogue.inner_loops`; $u$ is what a batch norm gives before scale and
shift.
"""

from __future__ import annotations

from functools import partial

from mltk.oracle.case import Values
from mltk.oracle.catalogue.loop_ways import MOVING, NORMALISED, UNROLLED, Gradients, changed, fitted, varied
from mltk.oracle.catalogue.mistake import Family, Mistake
from mltk.oracle.definitions.clipping import clipped
from mltk.oracle.definitions.inner_loop_knobs import ClipKind, LoopKnobs, Settings, Where
from mltk.oracle.definitions.tensor import double

LIMITS = (1.0, 0.5, 0.25, 0.1, 2.0, 5.0, 10.0)


def _clipped(kind: ClipKind) -> Family:
    """The meta-gradient clipped by its norm or by value."""

    def outputs(settings: Settings, inputs: Values, value: float) -> Values | None:
        return changed(lambda gradients, *_: _limited(kind, value, gradients), LoopKnobs(), settings, inputs)

    return Family(outputs, f"largest {kind}", LIMITS)


def _limited(kind: ClipKind, limit: float, gradients: Gradients) -> Gradients:
    leading = {name: double(g[None]) for name, g in gradients.items()}
    return {name: g.value[0] for name, g in clipped(kind, limit, leading).items()}


def _smoothed(where: Where, place: str) -> Family:
    starts = (0.1, 0.05, 0.2, 0.01, 1e-3)
    return fitted(f"smoothing in {place}", starts, lambda c: {"smoothing": c, "smoothed": where})


def _inner_clipped(kind: ClipKind, number: str) -> Family:
    return fitted(number, LIMITS, lambda c: {"clip": (kind, c)})


def _wrong(what: str, layer: Settings, where: Where) -> Settings:
    """A batch norm with a mistake."""
    return {**layer, "wrong": what}


def _detached_outside(layer: Settings, where: Where) -> Settings:
    """Constants in the query pass alone."""
    return {**layer, "wrong": "detached"} if where == "outer" else layer


def _support_detached(layer: Settings, where: Where) -> Settings:
    """Constants where the support set normalises the queries, and nothing else changed."""
    return _detached_outside(layer, where) if layer.get("statistics") == "support" else layer


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "batch-norm-evaluation-mode",
        "Batch norms use fresh running statistics, mean 0 and variance 1.",
        r"u = x / \sqrt{1 + \epsilon}",
        "`model.eval()` before anything has been collected.",
        NORMALISED,
        (varied(statistics="evaluation"),),
    ),
    Mistake(
        "batch-norm-running-statistics",
        "The queries are normalised by running averages of the support passes.",
        r"u_q = (x_q - \hat\mu) / \sqrt{\hat\sigma^2 + \epsilon}, \quad "
        r"\hat\mu \leftarrow 0.9 \hat\mu + 0.1 \mu_s",
        "`model.eval()` for the query pass of layers with `track_running_stats`.",
        NORMALISED,
        (
            varied("collected for each task", statistics="running"),
            varied("collected over the tasks", statistics="running over tasks"),
        ),
    ),
    Mistake(
        "batch-norm-query-statistics",
        "The queries are normalised by their own statistics where those of the support set are asked for.",
        r"u_q = (x_q - \mu_q) / \sqrt{\sigma_q^2 + \epsilon}",
        "A model in training mode, whose batch norms take the current set.",
        NORMALISED,
        (varied(statistics="batch"),),
    ),
    Mistake(
        "batch-norm-support-statistics",
        "The queries are normalised by the support set where their own statistics are asked for.",
        r"u_q = (x_q - \mu_s) / \sqrt{\sigma_s^2 + \epsilon}",
        "Statistics of the last support pass are kept for the query pass.",
        NORMALISED,
        (varied(statistics="support"),),
    ),
    Mistake(
        "batch-norm-joint-statistics",
        "Batch norms see the support and the query set together.",
        r"u = (x - \mu_{s \cup q}) / \sqrt{\sigma_{s \cup q}^2 + \epsilon}",
        "One pass through the network for both sets, which are taken apart behind it.",
        NORMALISED,
        (
            varied("in both passes", joint="both"),
            varied("in the query pass", joint="outer"),
            varied("in the support pass", joint="inner"),
        ),
    ),
    Mistake(
        "batch-norm-unbiased-variance",
        "Batch norms divide by the unbiased variance.",
        r"u = (x - \mu) / \sqrt{\tfrac{n}{n - 1} \sigma^2 + \epsilon}",
        "`x.var()` of Torch, which divides by one less than the number of examples unless told otherwise.",
        NORMALISED,
        (varied(norm=partial(_wrong, "unbiased")),),
    ),
    Mistake(
        "batch-norm-epsilon",
        "Batch norms have another epsilon, or have it in another place.",
        r"u = (x - \mu) / \sqrt{\sigma^2 + \epsilon'}, \quad (x - \mu) / (\sigma + \epsilon)",
        "The default of another library, 1e-3, or a formula from memory.",
        NORMALISED,
        (
            varied("added to the root of the variance", norm=partial(_wrong, "epsilon beside the root")),
            fitted(
                "epsilon",
                (1e-3, 1e-8, 1e-6, 1e-4, 1e-2),
                lambda e: {"norm": lambda layer, where: {**layer, "eps": e}},
            ),
        ),
    ),
    Mistake(
        "batch-norm-statistics-detached",
        "No gradient goes through the statistics of batch norms.",
        r"\partial \mu / \partial x = 0, \quad \partial \sigma / \partial x = 0",
        "Mean and variance are taken under `no_grad`, or of `x.detach()`.",
        NORMALISED,
        (
            varied("mean and variance", norm=partial(_wrong, "detached")),
            varied("the variance", norm=partial(_wrong, "detached variance")),
            varied("mean and variance, in the query pass", norm=_detached_outside),
            varied("those of the support set, for the queries", norm=_support_detached),
        ),
    ),
    Mistake(
        "macro-average",
        "The loss is a mean over the classes of the means of their examples.",
        r"\tfrac1C \textstyle\sum_k \tfrac1{n_k} \sum_{i : y_i = k} L_i",
        "Classes are balanced by weights, or a loss is taken class by class.",
        MOVING,
        (
            varied("in both losses", by_class="both"),
            varied("in the inner loss", by_class="inner"),
            varied("in the outer loss", by_class="outer"),
        ),
    ),
    Mistake(
        "softmax-twice",
        "The logits are soft-maxed before a loss that does it again.",
        r"\operatorname{CE}(\operatorname{softmax}(z), y)",
        "A network that ends in a softmax, with a cross-entropy that takes logits.",
        MOVING,
        (
            varied("in both losses", softmax="both"),
            varied("in the inner loss", softmax="inner"),
            varied("in the outer loss", softmax="outer"),
        ),
    ),
    Mistake(
        "label-smoothing",
        "The labels are smoothed.",
        r"(1 - \varepsilon) t + \varepsilon / C",
        "`label_smoothing` of the training recipe is left on.",
        MOVING,
        (
            _smoothed("both", "both losses"),
            _smoothed("inner", "the inner loss"),
            _smoothed("outer", "the outer loss"),
        ),
    ),
    Mistake(
        "weight-decay-in-inner-loop",
        "The inner loop decays the weights.",
        r"\theta_{k+1} = \theta_k - \alpha (g_k + w \theta_k)",
        "An inner optimiser with `weight_decay`.",
        MOVING,
        (fitted("weight decay w", (1e-4, 5e-4, 1e-3, 1e-2, 0.1), lambda c: {"decay": c}),),
    ),
    Mistake(
        "gradient-clipping",
        "The inner gradients are clipped.",
        r"\theta_{k+1} = \theta_k - \alpha g_k \min(1, c / \lVert g_k \rVert)",
        "`clip_grad_norm_` or `clip_grad_value_` in the inner loop.",
        MOVING,
        (
            _inner_clipped("norm", "largest norm"),
            _inner_clipped("norm as constant", "largest norm, a constant factor on the way back,"),
            _inner_clipped("value", "largest value"),
        ),
    ),
    Mistake(
        "outer-clipping",
        "The meta-gradient is clipped.",
        r"\lambda_0 \min(1, c / \lVert \lambda_0 \rVert)",
        "`clip_grad_norm_` or `clip_grad_value_` before the gradient is returned.",
        UNROLLED,
        (_clipped("norm"), _clipped("value")),
    ),
)

SINGLE = Mistake(
    "single-precision",
    "Something is computed in single precision: the errors are those of its roundings.",
    r"\operatorname{fl}_{32}(\lambda_0)",
    "`torch.tensor(0.1)`, `.float()` or a buffer without the dtype of the inputs, on the way of float64.",
    (),
    (),
)
"""Recognised by its rounding errors, and not by comparison."""
