"""Every difficulty counts alike: importance weights by an online normal."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mltk.checks import Part
from mltk.data.source import Proposal
from mltk.task_analysis.curricula.of_tasks import OfTasks, State, Step

FEWEST = 30
"""Tasks whose difficulty is known before any are weighed."""

REACH = 2.5758293035489004
"""Standard deviations within which 99 % of a normal distribution lie."""


@dataclass(frozen=True)
class UniformDifficulty(OfTasks):
    r"""Weighs tasks as if their difficulty were uniform (Arnold, Dhillon, Ravichandran & Soatto 2021).

    The difficulty $\Omega$ of the tasks so far has a mean $\mu$ and a variance $\sigma^2$. A task of the next
    step counts for the ratio of two densities, the uniform one on the 99 % range
    $\mu \pm 2.576\,\sigma$ and the normal one, and for nothing outside of that range:

    $$w(\Omega) = \frac{U(\Omega)}{\mathcal N(\Omega;\, \mu, \sigma^2)}.$$

    Mean and variance are of the tasks before this step, so that $w$ is a fixed function when they are drawn
    and $\tfrac1T \sum_t w_t L_t$ has the expectation $\mathrm E[w L]$ exactly. Divided by the effective
    number of tasks $(\sum_t w_t)^2 / \sum_t w_t^2$ instead of their number $T$, which is what the authors do,
    it does not: the difference is the larger the fewer tasks a step has.

    Each step adapts to its tasks twice, once to see how hard they are. Until 30 tasks have been seen, all
    count for 1. That earlier steps count for less in mean and variance is not of the authors; the learner
    gets better, and what was hard for it no longer is.

    Attributes:
        tasks: The source of the tasks.
        divisor: ``"effective"`` divides the sum of the weighted losses by the effective number of tasks,
            ``"tasks"`` by their number.
        memory: What the tasks of a step count for in mean and variance one step later, from 0 to 1.

    Raises:
        SettingError: If a setting is not valid.

    Examples:
        >>> import mltk
        >>> tasks = mltk.task_analysis.curricula.UniformDifficulty(mltk.data.Sinusoid(shots=5, queries=5))
        >>> maml = mltk.algorithms.MAML(mltk.models.mlp([1, 20, 1]), "mse")
        >>> run = mltk.train(maml, tasks, backend=mltk.backend("numpy"), steps=9, log_every=1, meta_batch=10)
        >>> [line["effective_tasks"] for line in run.history[:3]]
        [10.0, 10.0, 10.0]
        >>> 1 <= run.history[-1]["effective_tasks"] < 10
        True
    """

    divisor: Literal["effective", "tasks"] = "effective"
    memory: Part = 0.99

    def start(self) -> State:
        """See `mltk.data.source.Proposer`: tasks seen, and what they count for in mean and squares."""
        return {name: np.asarray(0.0) for name in ("seen", "total", "mean", "squares")}

    def proposed(self, step: Step, state: State) -> Proposal:
        """See `OfTasks`; logged are mean difficulty and effective number of tasks."""
        episode, found = self.candidates_of(step)
        weights = importance(found, state)
        effective = effective_number(weights)
        if self.divisor == "effective" and effective:
            weights = weights * (len(found) / effective)
        if episode.weights is not None:
            weights = weights * episode.weights
        figures = {"difficulty": float(found.mean()), "effective_tasks": effective}
        return Proposal(replace(episode, weights=weights), updated(state, found, self.memory), figures)


def importance(found: np.ndarray, state: State) -> np.ndarray:
    """The ratio of the densities at each difficulty, ``(T,)``."""
    deviation = math.sqrt(state["squares"] / state["total"]) if state["seen"] >= FEWEST else 0.0
    if not deviation:
        return np.ones(len(found))
    z = (found - state["mean"]) / deviation
    within = np.abs(z) <= REACH
    ratio = math.sqrt(2 * math.pi) / (2 * REACH) * np.exp(np.where(within, z, 0) ** 2 / 2)
    return np.where(within, ratio, 0.0)


def effective_number(weights: np.ndarray) -> float:
    r"""$(\sum w)^2 / \sum w^2$ (Kish 1965): equal weights count for as many as they are, zeros for none."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if weights.any() else 0.0


def updated(state: State, found: np.ndarray, memory: float) -> State:
    """Mean and squares with further difficulties (Chan, Golub & LeVeque 1983); earlier ones count less."""
    before, count = memory * state["total"], len(found)
    total, step = before + count, found.mean() - state["mean"]
    return {
        "seen": state["seen"] + count,
        "total": np.asarray(total),
        "mean": np.asarray(state["mean"] + step * count / total),
        "squares": np.asarray(
            memory * state["squares"] + count * found.var() + step**2 * before * count / total
        ),
    }
