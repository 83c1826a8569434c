r"""Learners over several datasets: ranks that may be compared, and differences that matter.

A dataset gives each learner *one* score. Tasks of one dataset are no datasets: they share its classes, and as
many of them as one likes would make any difference significant (pseudo-replication). For those see
`mltk.evaluation.paired`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from mltk.checks import (
    Count,
    CountOrZero,
    NonNegative,
    Positive,
    check_between,
    checked,
)
from mltk.errors import NotFiniteError, SettingError, ShapeError
from mltk.evaluation.result import Evaluation
from mltk.evaluation.table import Table
from mltk.installation import needed_for
from mltk.summary import Lines, Summary


@dataclass(frozen=True, repr=False)
class Ranking(Summary):
    r"""Friedman's test, and Nemenyi's critical difference.

    With $N$ datasets, $k$ learners and their mean ranks $R_j$, where ties share ranks,

    $$\chi^2_F = \frac{12 N}{k (k+1)} \frac{\sum_j \big(R_j - \frac{k+1}{2}\big)^2}{c}, \qquad
      F_F = \frac{(N - 1)\, \chi^2_F}{N (k - 1) - \chi^2_F}, \qquad
      \mathrm{CD} = q_\alpha \sqrt{\frac{k (k+1)}{6 N}},$$

    with the correction $c$ for ties of Conover (1999), Iman & Davenport's (1980) $F$ with $k - 1$ and
    $(k-1)(N-1)$ degrees of freedom, and the studentised range divided by $\sqrt 2$ for $q_\alpha$ (Demšar
    2006, section 3.2.2).

    Attributes:
        names: Of the learners.
        ranks: Their mean ranks ``(k,)``; 1 is best.
        datasets: How many.
        friedman: The p-value of $\chi^2_F$.
        iman_davenport: That of $F_F$, which is less conservative.
        critical_difference: Two mean ranks that are further apart differ.
        level: One less the $\alpha$ of the critical difference.

    Examples:
        >>> import mltk
        >>> scores = [[0.91, 0.89, 0.85], [0.71, 0.74, 0.65], [0.55, 0.52, 0.50], [0.83, 0.80, 0.79]]
        >>> print(mltk.evaluation.rank_over_datasets(scores, ("maml", "ridge", "matching")))
        maml 1.25, ridge 1.75, matching 3.00 (mean ranks over 4 datasets; no difference found within 1.66)
    """

    names: tuple[str, ...]
    ranks: np.ndarray
    datasets: int
    friedman: float
    iman_davenport: float
    critical_difference: float
    level: float = 0.95

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """The largest sets in which no difference is found, best ranks first; they may overlap."""
        order = np.argsort(self.ranks, kind="stable")
        ranks = self.ranks[order]
        ends = np.searchsorted(ranks, ranks + self.critical_difference, side="right")
        kept = [(i, end) for i, end in enumerate(ends) if end - i > 1 and (i == 0 or end > ends[i - 1])]
        return [tuple(self.names[each] for each in order[i:end]) for i, end in kept]

    def __str__(self) -> str:
        order = np.argsort(self.ranks, kind="stable")
        said = ", ".join(f"{self.names[each]} {self.ranks[each]:.2f}" for each in order)
        return (
            f"{said} (mean ranks over {self.datasets} datasets; "
            f"no difference found within {self.critical_difference:.2f})"
        )

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        tests = f"Friedman p = {self.friedman:.3g}, Iman–Davenport p = {self.iman_davenport:.3g}"
        groups = "; ".join(", ".join(group) for group in self.groups) or "none"
        return f"Ranking: {self}", [("all alike?", tests), ("no difference found", groups)]


def rank_over_datasets(
    scores: Any, names: Sequence[str], *, level: float = 0.95, smaller_is_better: bool = False
) -> Ranking:
    """Rank learners over datasets.

    Args:
        scores: A row for each dataset, ``(N, k)``, such as accuracies.
        names: Of the ``k`` learners.
        level: One less the error of the critical difference.
        smaller_is_better: As for errors.

    Raises:
        ShapeError: If there are not at least two rows, and a name for each of at least two columns.
        NotFiniteError: If a score is NaN or infinite.
        SettingError: If a setting is not valid, or the scores are those of tasks.
        MissingLibraryError: If SciPy is not installed.
    """
    found = _checked(scores)
    if not isinstance(names, Sequence) or len(set(names)) < len(names):
        raise SettingError(f"names is {names!r}; expected different texts, one for each learner")
    if found.ndim != 2 or found.shape[0] < 2 or found.shape[1] < 2 or found.shape[1] != len(names):
        raise ShapeError(
            f"scores has shape {found.shape} for {len(names)} names; "
            "expected (datasets, learners), both at least 2"
        )
    check_between("level", level)
    with needed_for("ranking"):
        from scipy.special import fdtrc
        from scipy.stats import chi2, rankdata, studentized_range
    datasets, learners = found.shape
    ranks = rankdata(found if smaller_is_better else -found, axis=1)
    middle = (learners + 1) / 2
    spread = float(np.sum((ranks - middle) ** 2)) / (datasets * (learners - 1))  # k (k + 1) / 12 without ties
    mean = ranks.mean(axis=0)
    statistic = datasets * float(np.sum((mean - middle) ** 2)) / spread if spread else 0.0
    rest = datasets * (learners - 1) - statistic
    freedom = (learners - 1, (learners - 1) * (datasets - 1))
    f = (datasets - 1) * statistic / rest if rest > 1e-12 * statistic else math.inf
    quantile = float(studentized_range.ppf(level, learners, np.inf)) / math.sqrt(2)
    return Ranking(
        tuple(names),
        mean,
        datasets,
        friedman=float(chi2.sf(statistic, learners - 1)),
        iman_davenport=float(fdtrc(*freedom, f)) if math.isfinite(f) else 0.0,
        critical_difference=quantile * math.sqrt(learners * (learners + 1) / (6 * datasets)),
        level=level,
    )


def rank_tables(tables: Mapping[str, Table], *, level: float = 0.95) -> Ranking:
    """Rank learners by their means in several tables, each of which is of another dataset.

    Args:
        tables: Those of the same learners, under the names of the datasets.
        level: As for `rank_over_datasets`.

    Raises:
        SettingError: If the tables are not of the same learners and metric, or two are of the same tasks.
        MltkError: As `rank_over_datasets`.

    Examples:
        >>> import mltk
        >>> be, tables = mltk.backend("numpy"), {}
        >>> identity = mltk.models.Sequential([])
        >>> learners = (mltk.algorithms.Prototypical(identity), mltk.RidgeRegression(identity))
        >>> pairs = {type(each).__name__: (each, each.init(be, seed=0)) for each in learners}
        >>> for ways in (2, 3, 4):
        ...     tasks = mltk.data.Blobs(ways=ways, shots=2, queries=5)
        ...     tables[f"{ways} ways"] = mltk.MetaLearningEvaluator(pairs, tasks, backend=be).run(episodes=40)
        >>> print(mltk.evaluation.rank_tables(tables))
        Prototypical 1.00, RidgeRegression 2.00 (mean ranks over 3 datasets; no difference found within 1.13)
    """
    if not isinstance(tables, Mapping) or not all(isinstance(each, Table) for each in tables.values()):
        raise SettingError(f"tables is {tables!r}; expected a dict of tables, by the names of their datasets")
    names: list[str] = sorted({name for table in tables.values() for name in table.outcomes})
    metrics = {table[name].metric for table in tables.values() for name in table.outcomes}
    for dataset, table in tables.items():
        if sorted(table.outcomes) != names or len(metrics) > 1:
            raise SettingError(
                f"the table of {dataset} has {', '.join(table.outcomes)}; "
                f"expected {', '.join(names)} in each table, and one metric"
            )
    for one, other in combinations(tables, 2):
        if all(np.array_equal(tables[one][name].values, tables[other][name].values) for name in names):
            raise SettingError(
                f"the tables of {one} and {other} are of the same tasks; expected other datasets"
            )
    scores = [[table[name].mean for name in names] for table in tables.values()]
    return rank_over_datasets(scores, names, level=level, smaller_is_better=metrics == {"mse"})


class Practical(NamedTuple):
    """How probable it is that the first of two learners is better, as good, or worse.

    Examples:
        >>> import mltk
        >>> mltk.evaluation.signed_rank([0.001, -0.002, 0.003, 0.0, 0.002], rope=0.01)
        Practical(better=0.0, equivalent=1.0, worse=0.0)
    """

    better: float
    equivalent: float
    worse: float


@checked
def signed_rank(
    differences: Any,
    rope: NonNegative,
    *,
    prior: Positive = 0.5,
    samples: Count = 50_000,
    seed: CountOrZero = 0,
) -> Practical:
    r"""The Bayesian signed-rank test with a region of practical equivalence.

    Under a Dirichlet process, the differences on datasets $z_i$ and one of zero, $z_0$, have the weights
    $w \sim \mathrm{Dir}(s, 1, \dots, 1)$, and the sums $z_i + z_j$ lie above, within and below twice the
    region with the probabilities $\sum_{ij} w_i w_j [\,\cdot\,]$. Given are the parts of draws of $w$ in
    which each of the three is the most probable (Benavoli, Corani, Demšar & Zaffalon 2017).

    Args:
        differences: Of the scores of two learners on each dataset, ``(N,)``.
        rope: Differences from ``-rope`` to ``rope`` do not matter.
        prior: The weight $s$ of the difference of zero.
        samples: Draws of the weights.
        seed: Of the draws.

    Raises:
        ShapeError: If the differences are not ``(N,)``.
        NotFiniteError: If one is NaN or infinite.
        SettingError: If a setting is not valid, or the differences are those of tasks.
    """
    found = _checked(differences)
    if found.ndim != 1 or found.size < 1:
        raise ShapeError(f"differences has shape {found.shape}; expected (datasets,)")
    values = np.concatenate([[0.0], found])
    sums = values[:, None] + values
    weights = np.random.default_rng(seed).dirichlet([prior, *np.ones(found.size)], samples)
    above, below = (
        np.einsum("si,ij,sj->s", weights, each, weights, optimize=True)
        for each in ((sums > 2 * rope).astype(float), (sums < -2 * rope).astype(float))
    )
    regions = np.stack([above, 1 - above - below, below], axis=1)
    best = np.isclose(regions, regions.max(axis=1, keepdims=True), rtol=0, atol=1e-12)
    return Practical(*(best / best.sum(axis=1, keepdims=True)).mean(axis=0).tolist())


def _checked(scores: Any) -> np.ndarray:
    """Finite numbers of datasets."""
    listed = isinstance(scores, list | tuple) and any(isinstance(each, Evaluation | Table) for each in scores)
    if listed or isinstance(scores, Evaluation | Table):
        raise SettingError(
            "these are the values of tasks of one dataset; expected one score for each dataset "
            "(mltk.evaluation.compare is for tasks, rank_tables for tables of several datasets)"
        )
    try:
        found = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ShapeError("scores are no array of numbers; expected rows of numbers, equally long") from error
    if not np.isfinite(found).all():
        raise NotFiniteError("a score is NaN or infinite; expected finite numbers")
    return found
