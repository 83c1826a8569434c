r"""A threshold whose expected loss on a new task stays below a wanted one.

Conformal risk control (Angelopoulos, Bates, Fisch, Lei & Schuster 2024) with the task as the unit: let
$L_t(\lambda) \le B$ be the loss of calibration task $t$ when classes of probability at least $1 - \lambda$
are in the sets, one that does not rise with $\lambda$. Then

$$\hat\lambda = \inf \Big\{ \lambda : \frac{T \bar L(\lambda) + B}{T + 1} \le \alpha \Big\}
  \quad\text{has}\quad \mathbb E\, L_{T+1}(\hat\lambda) \le \alpha.$$

Here the loss is the part of a task's queries whose right class is missing in their sets, $B = 1$. Unlike one
query a task (`mltk.evaluation.conformal`) it uses all of them. It is a step function, which falls where
$\lambda$ meets the score $1 - p(y)$ of a query, each by $1 / (T M)$: so $\hat\lambda$ is exactly one of the
scores.
"""

from __future__ import annotations

import math

import numpy as np

from mltk.evaluation.conformal import ConformalSets, check_alpha
from mltk.evaluation.probabilities import judged, of_labels
from mltk.tree import Array


def controlled_sets(probabilities: Array, labels: Array, *, alpha: float = 0.1) -> ConformalSets:
    """Sets that miss the right class in an expected part ``alpha`` of a new task's queries, at most.

    See `mltk.evaluation.risk_control`.

    Args:
        probabilities: For each class of the queries of calibration tasks, ``(T, M, ways)`` or ``(n, ways)``,
        of
            any backend.
        labels: The right classes, ``(T, M)`` or ``(n,)``.
        alpha: What part may be missed, between 0 and 1.

    Raises:
        SettingError: If ``alpha`` is not valid.
        MltkError: If the arrays are not of this form.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> probabilities = np.tile([[0.9, 0.1], [0.6, 0.4]], (19, 1, 1))
        >>> sets = mltk.evaluation.controlled_sets(probabilities, np.zeros((19, 2), dtype=int), alpha=0.1)
        >>> round(sets.threshold, 3)
        0.4
    """
    check_alpha(alpha)
    p, y = judged(probabilities, labels)
    tasks, queries = y.shape
    scores = np.sort((1 - of_labels(p, y)).ravel())
    # Of T M queries so many may be missed: T L + 1 ≤ α (T + 1).
    missed = math.floor(queries * (alpha * (tasks + 1) - 1) + 1e-9)
    return ConformalSets(alpha, float(scores[-1 - missed]) if missed >= 0 else math.inf, tasks)
