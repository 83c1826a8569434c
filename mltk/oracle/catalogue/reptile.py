r"""The known mistakes of Reptile alone: what it takes for the way of the parameters.

The symbols are those of `mltk.oracle.catalogue.inner_loops`; the truth is $\textstyle\sum_k g_k$, the mean
over the tasks.
"""

from __future__ import annotations

from mltk.oracle.catalogue.loop_ways import REPTILE, varied
from mltk.oracle.catalogue.mistake import Mistake

MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "reptile-step-size-missing",
        "The way of the parameters is not divided by the inner step size.",
        r"\theta_0 - \theta_K",
        "`start - end` is taken for the gradient, as with an outer step that is meant for it.",
        REPTILE,
        (varied(way="moved"),),
    ),
    Mistake(
        "reptile-one-gradient",
        "Only the first or the last of the inner gradients counts.",
        r"g_0, \text{ or } g_{K - 1}",
        "The old parameters are kept inside of the loop, or `.grad` of the last step is read.",
        REPTILE,
        (varied("the last", way="last"), varied("the first", way="first")),
    ),
    Mistake(
        "reptile-mean-of-steps",
        "The mean of the inner gradients instead of their sum.",
        r"\tfrac1K \textstyle\sum_k g_k",
        "The way of the parameters is divided by the number of steps, too.",
        REPTILE,
        (varied(way="mean"),),
    ),
    Mistake(
        "reptile-query-gradient",
        "The gradient of the query loss at the end, as in first-order MAML.",
        r"\nabla L_q(\theta_K)",
        "Code of first-order MAML under the name of Reptile.",
        REPTILE,
        (varied(way="query"),),
    ),
    Mistake(
        "reptile-batches",
        "The inner steps take other examples than their batches.",
        r"g_k = \nabla L_s(\theta_k) \text{ on all examples, or always on the first}",
        "The batch size is ignored, or the same batch is drawn in every step.",
        REPTILE,
        (varied("all examples", batches="whole"), varied("the first batch", batches="first")),
    ),
)
