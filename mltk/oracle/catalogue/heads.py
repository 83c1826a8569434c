r"""The known mistakes of heads.

In the formulas $s_i$ are the $N$ support embeddings and $q_j$ the queries, vectors of $d$ numbers, $t_{ik}$
the one-hot labels $T$, $n_k$ the number of examples of class $k$, $c_k = \tfrac1{n_k} \sum_i t_{ik} s_i$ its
prototype, $\tau$ the temperature, $z_{jk}$ the logits and $\operatorname{CE}$ their cross-entropy. For
matching $a_{ji} = \operatorname{softmax}_i(\cos(q_j, s_i) / \tau)$ and $z_{jk} = \log \sum_i a_{ji} t_{ik}$;
in the full context, $g$, $h$, $r$ and $f$ are those of `mltk.heads.FullContextMatchingHead`. $X$ are the
support embeddings as rows, $Y$ their targets, $\lambda$ is the regulariser, $W$ and $b$ the solution of ridge
or logistic regression, $\alpha$ the scale and $\beta$ the shift of its outputs.
"""

from __future__ import annotations

import numpy as np

from mltk.oracle.catalogue import linear_heads, metric_heads
from mltk.oracle.catalogue.head_ways import HEADS, METRIC, PROTOTYPICAL, SOLVED, fitted, turned
from mltk.oracle.catalogue.mistake import Mistake


def _for_the_number_itself(name: str, g: np.ndarray, value: np.ndarray) -> np.ndarray:
    """The gradient for a number whose logarithm is the parameter."""
    return g / np.exp(value) if name.startswith("log_") else g


def _not_learned(name: str, g: np.ndarray, value: np.ndarray) -> np.ndarray:
    return np.zeros_like(g) if value.ndim == 0 else g


def _without(part: str, name: str, g: np.ndarray) -> np.ndarray:
    return np.zeros_like(g) if name == part else g


BOTH: tuple[Mistake, ...] = (
    Mistake(
        "softmax-twice",
        "The logits are soft-maxed before a loss that does it again.",
        r"\operatorname{CE}(\operatorname{softmax}(z), y)",
        "Probabilities are handed to a cross-entropy that takes logits.",
        HEADS,
        (turned(finish="softmax"),),
    ),
    Mistake(
        "log-probabilities",
        "Log-probabilities in the place of logits: the loss is the same.",
        r"z_{jk} - \log \sum_l e^{z_{jl}}",
        "`log_softmax` at the end, which the cross-entropy does not mind.",
        (*PROTOTYPICAL, *SOLVED),
        (turned(finish="log-softmax"),),
    ),
    Mistake(
        "support-query-swapped",
        "The query set is learned from, and the support set is judged.",
        r"s \leftrightarrow q",
        "The two are unpacked in the wrong order.",
        HEADS,
        (turned(swapped=True),),
    ),
    Mistake(
        "label-smoothing",
        "The labels are smoothed.",
        r"(1 - \varepsilon) t + \varepsilon / \text{ways}",
        "`label_smoothing` of the training recipe is left on.",
        HEADS,
        (fitted("smoothing", (0.1, 0.05, 0.2, 0.01, 1e-3), lambda e: {"smoothing": e}),),
    ),
    Mistake(
        "squared-error-of-classes",
        "The mean squared error to one-hot labels instead of the cross-entropy.",
        r"\operatorname{mean} (z - t)^2",
        "The loss of regression, for classification.",
        HEADS,
        (turned(squared_error=True),),
    ),
    Mistake(
        "macro-average",
        "The loss is a mean over the classes of the means of their queries.",
        r"\tfrac1C \textstyle\sum_k \tfrac1{n_k} \sum_{j : y_j = k} L_j",
        "Classes are balanced by weights, or a loss is taken class by class.",
        HEADS,
        (turned(by_class=True),),
    ),
    Mistake(
        "support-without-gradient",
        "No gradient for the support embeddings: prototypes, or what stands for them, are detached.",
        r"\partial L / \partial s_i = 0",
        "Prototypes are computed under `no_grad`, or the support set is embedded so.",
        METRIC,
        (turned(gradient=lambda name, g, value: _without("support_x", name, g)),),
    ),
    Mistake(
        "logits-scaled",
        "The logits are multiplied by a factor.",
        r"c z, \quad z / \sqrt d",
        "A scale of another recipe, or the root of the number of features as in attention.",
        HEADS,
        (
            turned("over the root of the number of features", factor=lambda d: d**-0.5),
            fitted("factor", (0.5, 2.0, 0.1, 10.0, 64.0), lambda c: {"factor": lambda d: c}),
        ),
    ),
    Mistake(
        "gradient-of-the-number-itself",
        "The gradient for a temperature or regulariser instead of that for its logarithm.",
        r"\partial L / \partial \tau \text{ for } \partial L / \partial \log \tau",
        "The logarithm is left out in a rule by hand.",
        (*PROTOTYPICAL, *SOLVED),
        (turned(gradient=_for_the_number_itself),),
    ),
    Mistake(
        "learned-numbers-without-gradient",
        "No gradient for the learned numbers.",
        r"\partial L / \partial \log \tau = 0",
        "They are read as constants: `.item()` or `.detach()`.",
        (*PROTOTYPICAL, *SOLVED),
        (turned(gradient=_not_learned),),
    ),
    Mistake(
        "queries-without-gradient",
        "No gradient for the query embeddings.",
        r"\partial L / \partial q_j = 0",
        "The queries are embedded under `no_grad`.",
        HEADS,
        (turned(gradient=lambda name, g, value: _without("query_x", name, g)),),
    ),
)

MISTAKES: tuple[Mistake, ...] = (*metric_heads.MISTAKES, *linear_heads.MISTAKES, *BOTH)
