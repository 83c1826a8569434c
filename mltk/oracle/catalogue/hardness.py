r"""The known mistakes of the hardness of a task.

In the formulas $z(x)$ are the features of a query, $w_k$ the weight of class $k$, $y$ the right class and
$p(y)$ its probability, $\tau$ the temperature and $K$ the number of classes; means are over the queries.
"""

from __future__ import annotations

from mltk.oracle.catalogue.head_ways import HARDNESS, turned
from mltk.oracle.catalogue.mistake import Mistake

MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "likelihood-for-odds",
        "The cross-entropy, or the probability of an error, in the place of the log-odds.",
        r"-\operatorname{mean} \log p(y), \quad \operatorname{mean} (1 - p(y))",
        "Hardness is taken for the loss, or the logarithm is taken of nothing.",
        HARDNESS,
        (
            turned("minus the log-likelihood", odds="likelihood"),
            turned("the probability of an error", odds="errors"),
        ),
    ),
    Mistake(
        "logarithm-of-odds",
        "The logarithm is missing, or taken of the mean of the odds.",
        r"\operatorname{mean} \frac{1 - p(y)}{p(y)}, \quad \log \operatorname{mean} \frac{1 - p(y)}{p(y)}",
        "The logarithm and the mean are exchanged.",
        HARDNESS,
        (
            turned("missing", odds="no logarithm"),
            turned("of the mean", odds="of the mean"),
        ),
    ),
    Mistake(
        "odds-for-the-right-class",
        "The odds are for the right class, not against it.",
        r"\operatorname{mean} \log \frac{p(y)}{1 - p(y)}",
        "`logit(p)`: more is then easier.",
        HARDNESS,
        (turned(odds="negated"),),
    ),
    Mistake(
        "sum-over-queries",
        "The log-odds of the queries are added up.",
        r"\textstyle\sum \log \frac{1 - p(y)}{p(y)}",
        "`sum` for `mean`.",
        HARDNESS,
        (turned(odds="sum"),),
    ),
    Mistake(
        "hardness-of-no-information-subtracted",
        "The hardness of features that tell nothing is subtracted.",
        r"\Omega - \log(K - 1)",
        "The odds against one other class on average: a measure of its own, `relative=True`.",
        HARDNESS,
        (turned(odds="relative"),),
    ),
    Mistake(
        "rectified-otherwise",
        "Features are rectified where they should not be, or not where they should, or after the mean.",
        r"w_k = \bar z_k / \lVert \bar z_k \rVert, \quad (\bar z_k)_+ / \lVert (\bar z_k)_+ \rVert, "
        r"\quad z \leftrightarrow z_+ \text{ of the queries}",
        "Only one of the two sets goes through the rectifier, as in popular code, or the prototypes do.",
        HARDNESS,
        (
            turned("the queries", rectified="queries otherwise"),
            turned("not the support set", rectified="not the support set"),
            turned("the prototypes, not the examples", rectified="prototypes"),
        ),
    ),
)
