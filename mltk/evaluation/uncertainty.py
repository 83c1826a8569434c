r"""What an ensemble does not know, and what nobody can know.

For the probabilities $p_s$ of $S$ members, such as trainings from several seeds or heads drawn from a
posterior, and the entropy $H$, in nats,

$$\underbrace{H\big[\tfrac1S \textstyle\sum_s p_s\big]}_{\text{total}}
  = \underbrace{\tfrac1S \textstyle\sum_s H[p_s]}_{\text{aleatoric}}
  + \underbrace{\tfrac1S \textstyle\sum_s \operatorname{KL}(p_s \,\|\, \bar p)}_{\text{epistemic}}.$$

The last part is the mutual information of label and member (Depeweg et al. 2018): zero where all members
agree, at most $\log S$. It is summed as divergences, whose terms $\bar p\, f(p_s / \bar p)$ with $f(u) = u
\log u - u + 1 \ge 0$ are never negative, so that no difference of entropies falls below zero.

For regression, `mltk.heads.bayesian_ridge` has both parts as variances in closed form.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mltk.errors import ShapeError
from mltk.evaluation.probabilities import checked_probabilities, host
from mltk.tree import Array


class Uncertainty(NamedTuple):
    """The parts of an entropy, each ``(T, M)`` in nats.

    Attributes:
        total: The entropy of the mean prediction.
        aleatoric: The mean entropy of the members.
        epistemic: The mutual information of label and member.
    """

    total: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray


def uncertainty(probabilities: Array) -> Uncertainty:
    """Split the uncertainty of an ensemble: see `mltk.evaluation.uncertainty`.

    Args:
        probabilities: Of each member, ``(S, T, M, ways)``, of any backend; they are divided by their sums.

    Raises:
        ShapeError: If the shape is another one.
        MltkError: If it holds no probabilities.

    Examples:
        >>> import mltk
        >>> import numpy as np
        >>> torn = np.asarray([[[[0.5, 0.5]]], [[[0.5, 0.5]]]])
        >>> split = np.asarray([[[[1.0, 0.0]]], [[[0.0, 1.0]]]])
        >>> [round(float(part[0, 0]), 3) for part in mltk.evaluation.uncertainty(torn)]
        [0.693, 0.693, 0.0]
        >>> [round(float(part[0, 0]), 3) for part in mltk.evaluation.uncertainty(split)]
        [0.693, 0.0, 0.693]
    """
    found = host("probabilities", probabilities)
    if found.ndim != 4:
        raise ShapeError(f"probabilities has shape {found.shape}; expected (S, T, M, ways)")
    p = checked_probabilities(found.reshape(-1, *found.shape[2:])).reshape(found.shape)
    p = p / p.sum(axis=-1, keepdims=True)
    mean = p.mean(axis=0)
    ratio = p / np.where(mean > 0, mean, 1)
    divergence = mean * np.maximum(_entropic(ratio) - ratio + 1, 0)
    return Uncertainty(
        total=0 - _entropic(mean).sum(axis=-1),
        aleatoric=0 - _entropic(p).sum(axis=-1).mean(axis=0),
        epistemic=divergence.sum(axis=-1).mean(axis=0),
    )


def _entropic(x: np.ndarray) -> np.ndarray:
    """``x log x``, zero at zero."""
    return np.asarray(x * np.log(np.where(x > 0, x, 1)))
