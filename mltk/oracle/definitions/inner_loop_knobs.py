"""The knobs of a loop: what the mistakes of an implementation turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mltk.oracle.case import Values

Settings = Mapping[str, Any]

Where = Literal["both", "inner", "outer"]
ClipKind = Literal["norm", "norm as constant", "value"]


@dataclass(frozen=True)
class LoopKnobs:
    """What mistakes turn in the loop of MAML, its relatives and Reptile; the defaults make none.

    Attributes:
        inner: The sets that the inner loop takes.
        outer: The sets that the outer loss takes.
        more_steps: Inner steps beyond those asked for; all fewer than asked for is none.
        hessian: From the number of a step and of all steps to the weight of its Hessian on the way back;
            ``None`` for what is asked for.
        rate: From the settings and inputs to what the inner step size is multiplied by.
        adapted: From the names of the parameters and of those that shall be adapted to those that are.
        carry: How much of the previous step's direction is added to a step's.
        decay: Weight decay in the inner loop.
        clip: How the inner gradient of each task is clipped, and to what: by the norm of all parameters
            together, as a function of the gradient or with a factor that is a constant on the way back; or
            each number by its value.
        statistics: What the batch norms take instead.
        joint: In which passes the batch norms see the support and the query set together.
        norm: What takes the place of a batch norm's settings, from them and the pass that it is in.
        softmax: Which losses take the softmax of the outputs for the outputs.
        smoothing: Label smoothing.
        smoothed: Which losses it is in.
        by_class: Which losses are means over the classes of the means of their examples.
        every: From the number of inner steps to the weights of the query losses after none, one, … of them.
        stale: Which weights the way back of the query loss meets, where the way forth had the adapted ones.
        leaks: How a task starts where the one before it ended: its gradient is taken at its own start, or
            goes back through all tasks before.
        pollutes: How the inner gradients are added to the meta-gradient: through the steps before them, as
            they are, or the last one alone.
        pollutes_all: Whether also those of parameters that the inner loop leaves.
        pollution_sum: Whether they are summed over the tasks, and not averaged.
        counts: From the number of tasks to the weight of each.
        way: What Reptile takes for the sum of its steps.
        batches: Which batches Reptile takes instead.
    """

    inner: tuple[str, ...] = ("support",)
    outer: tuple[str, ...] = ("query",)
    more_steps: int = 0
    hessian: Callable[[int, int], float] | None = None
    rate: Callable[[Settings, Values], float] | None = None
    adapted: Callable[[list[str], list[str]], list[str]] | None = None
    carry: float = 0.0
    decay: float = 0.0
    clip: tuple[ClipKind, float] | None = None
    statistics: Literal["evaluation", "running", "running over tasks", "batch", "support"] | None = None
    joint: Where | None = None
    norm: Callable[[Settings, Where], Settings] | None = None
    softmax: Where | None = None
    smoothing: float = 0.0
    smoothed: Where = "both"
    by_class: Where | None = None
    every: Callable[[int], np.ndarray] | None = None
    stale: Literal["start", "last task"] | None = None
    leaks: Literal["own start", "all before"] | None = None
    pollutes: Literal["through", "direct", "last"] | None = None
    pollutes_all: bool = False
    pollution_sum: bool = False
    counts: Callable[[int], np.ndarray] | None = None
    way: Literal["first", "last", "mean", "moved", "query"] | None = None
    batches: Literal["whole", "first"] | None = None
