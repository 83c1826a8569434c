r"""The known mistakes of training recipes: normalisation, losses, regularisation and clipping left on.

The symbols are those of `mltk.oracle.mistakes.inner_loop`; $u$ is what a batch norm gives before scale and
shift.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mltk.oracle.case import Values
from mltk.oracle.mistakes.altered import Clip, ClipKind
from mltk.oracle.mistakes.loop import Loop, Where
from mltk.oracle.mistakes.mistake import Family, Mistake
from mltk.oracle.mistakes.varied import UNROLLED, fitted, varied

LIMITS = (1.0, 0.5, 0.25, 0.1, 2.0, 5.0, 10.0)


def _clipped(kind: str) -> Family:
    """The meta-gradient clipped by its norm or by value."""

    def outputs(settings: Mapping[str, Any], inputs: Values, value: float) -> Values | None:
        right = Loop().outputs(settings, inputs)
        if right is None:
            return None
        leading = {name: g[None] for name, g in right["gradients"].items()}
        clip = Clip("value" if kind == "value" else "norm", value)
        return {**right, "gradients": {name: g[0] for name, g in clip(leading).items()}}

    return Family(outputs, f"largest {kind}", LIMITS)


def _smoothed(where: Where, place: str) -> Family:
    starts = (0.1, 0.05, 0.2)
    return fitted(f"smoothing in {place}", starts, lambda c: {"smoothing": c, "smoothed": where})


def _inner_clipped(kind: ClipKind, number: str) -> Family:
    return fitted(number, LIMITS, lambda c: {"clip": Clip(kind, c)})


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "batch-norm-evaluation-mode",
        "Batch norms use fresh running statistics, mean 0 and variance 1.",
        r"u = x / \sqrt{1 + \epsilon}",
        "`model.eval()` before anything has been collected.",
        UNROLLED,
        (varied(statistics="evaluation"),),
    ),
    Mistake(
        "batch-norm-running-statistics",
        "The queries are normalised by running averages of the support passes.",
        r"u_q = (x_q - \hat\mu) / \sqrt{\hat\sigma^2 + \epsilon}, \quad "
        r"\hat\mu \leftarrow 0.9 \hat\mu + 0.1 \mu_s",
        "`model.eval()` for the query pass of layers with `track_running_stats`.",
        UNROLLED,
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
        UNROLLED,
        (varied(statistics="batch"),),
    ),
    Mistake(
        "batch-norm-support-statistics",
        "The queries are normalised by the support set where their own statistics are asked for.",
        r"u_q = (x_q - \mu_s) / \sqrt{\sigma_s^2 + \epsilon}",
        "Statistics of the last support pass are kept for the query pass.",
        UNROLLED,
        (varied(statistics="support"),),
    ),
    Mistake(
        "softmax-twice",
        "The logits are soft-maxed before a loss that does it again.",
        r"\operatorname{CE}(\operatorname{softmax}(z), y)",
        "A network that ends in a softmax, with a cross-entropy that takes logits.",
        UNROLLED,
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
        UNROLLED,
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
        UNROLLED,
        (fitted("weight decay w", (1e-4, 5e-4, 1e-3, 1e-2, 0.1), lambda c: {"decay": c}),),
    ),
    Mistake(
        "gradient-clipping",
        "The inner gradients are clipped.",
        r"\theta_{k+1} = \theta_k - \alpha g_k \min(1, c / \lVert g_k \rVert)",
        "`clip_grad_norm_` or `clip_grad_value_` in the inner loop.",
        UNROLLED,
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
