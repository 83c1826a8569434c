r"""Knowing when not to answer: how many errors are left when the least sure predictions are withheld.

Of $n$ predictions with errors $\ell_i$ (1 where wrong), in the order of their confidence, let $E_k$ be the
sum of the errors among the $k$ most confident. Then

$$\text{AURC} = \frac1n \sum_{k=1}^n \frac{E_k}k, \qquad \text{AUGRC} = \frac1n \sum_{k=1}^n \frac{E_k}n:$$

the mean over coverages of the error rate among the answers given (Geifman, Uziel & El-Yaniv 2019), and of the
part of all questions that are answered wrongly (Traub et al. 2024), which does not weigh the few most
confident ones above all others. With $m$ errors the least value of AURC has them last,
$\frac1n \sum_{j=1}^m \frac j{n - m + j}$, and E-AURC is what AURC has above it. The formula
$r + (1 - r) \ln(1 - r)$ at the error rate $r$, which is often taken, is its limit for many predictions.

**Ties.** Predictions of one and the same confidence have no order, and an order by their place in memory
favours whoever sorted them. Here values are expectations over all orders of those that are tied. That is
exact and simple, since both are linear in the $E_k$: within a tie that holds the places $s + 1$ to $e$,
$\mathbb E\, E_k = E_s + (k - s) (E_e - E_s) / (e - s)$.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mltk.errors import SettingError, ShapeError
from mltk.evaluation.probabilities import host
from mltk.summary import Lines, Summary
from mltk.tree import Array


@dataclass(frozen=True, repr=False)
class Selective(Summary):
    """What confidence is worth for deciding which predictions to withhold; all values are better when small.

    Attributes:
        aurc: The error rate of the answers given, a mean over coverages.
        e_aurc: How far that is above the least that is possible with as many errors.
        augrc: The part of all questions that are answered wrongly, a mean over coverages.
        coverage: The parts of the questions that are answered, ``(n,)``: $k / n$.
        risk: The error rate of the answers then, ``(n,)``: $E_k / k$.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> found = mltk.evaluation.selective(np.asarray([0.9, 0.8, 0.7, 0.6]), np.asarray([0, 0, 1, 0]))
        >>> round(found.aurc, 4), round(found.e_aurc, 4), round(found.augrc, 4)
        (0.1458, 0.0833, 0.125)
    """

    aurc: float
    e_aurc: float
    augrc: float
    coverage: np.ndarray
    risk: np.ndarray

    def summary(self) -> tuple[str, Lines]:
        """See `mltk.summary.Summary`."""
        half = self.risk[(self.risk.size - 1) // 2]
        lines = [
            ("error rate", f"{self.risk[-1]:.4f} of all, {half:.4f} of the more confident half"),
            ("AURC", f"{self.aurc:.4f}; random confidence: {self.risk[-1]:.4f}"),
            ("E-AURC", f"{self.e_aurc:.4f} above the best order"),
            ("AUGRC", f"{self.augrc:.4f}"),
        ]
        return f"Selective prediction, {self.risk.size:,} predictions", lines


def selective(confidence: Array, wrong: Array) -> Selective:
    """Judge confidences by the errors that they warn of: see `mltk.evaluation.selective`.

    Args:
        confidence: Of each prediction, of any shape, such as the largest probability ``(T, M)``; any finite
            numbers, of which larger ones are more confident.
        wrong: Booleans or numbers 0 and 1 of the same shape, in NumPy: 1 where the prediction is wrong.

    Raises:
        ShapeError: If the shapes differ, or are empty.
        SettingError: If ``wrong`` holds something else.
        MltkError: If ``confidence`` is no array of finite floating numbers.
    """
    sure, errors = host("confidence", confidence), np.asarray(wrong)
    if errors.shape != sure.shape:
        raise ShapeError(f"wrong has shape {errors.shape}; expected {sure.shape} as confidence")
    if not np.isin(errors, (0, 1)).all():
        raise SettingError("wrong holds something else than 0 and 1; expected 1 where a prediction is wrong")
    # The most confident ones have the smallest numbers of their ties.
    _, tie, sizes = np.unique(-sure.ravel(), return_inverse=True, return_counts=True)
    rates = np.bincount(tie, errors.ravel().astype(np.float64)) / sizes
    total = np.cumsum(np.repeat(rates, sizes))
    n, m = sure.size, int(errors.sum())
    places = np.arange(1, n + 1)
    risk = total / places
    aurc = float(risk.mean())
    least = float(np.sum(np.arange(1, m + 1) / places[n - m :])) / n
    return Selective(aurc, max(aurc - least, 0.0), float(total.mean()) / n, places / n, risk)
