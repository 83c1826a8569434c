"""Gradient descent and its exact way back, with every knob that a mistake turns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mltk import ops
from mltk.ops import Operation
from mltk.oracle.case import Values
from mltk.oracle.mistakes.altered import Clip
from mltk.oracle.mistakes.descent import Block, Descent, Flat, Where, added

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Loop:
    """MAML, its relatives and Reptile with the mistakes of an implementation; the defaults make none.

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
        clip: What happens to the inner gradient of each task.
        statistics: What the batch norms take instead.
        joint: In which passes the batch norms see the support and the query set together.
        norm: What takes the place of a batch norm, from it and the pass that it is in.
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
    clip: Clip | None = None
    statistics: Literal["evaluation", "running", "running over tasks", "batch", "support"] | None = None
    joint: Where | None = None
    norm: Callable[[ops.BatchNorm, Where], Operation] | None = None
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

    def outputs(self, settings: Settings, inputs: Values) -> Values | None:
        """Loss and gradients, each the mean over tasks; ``None`` if the loop cannot be run so."""
        params = inputs["params"]
        initial = {name: p for name, p in params.items() if name.partition(".")[0] != "lr"}
        rates = {name: p for name, p in params.items() if name not in initial}
        names = list(settings.get("adapted") or initial)
        if self.adapted is not None:
            names = self.adapted(list(initial), names)
        steps = max((settings["inner_steps"] or 0) + self.more_steps, 0)
        each = settings.get("lr_per_step", False)
        if not names or (each and steps > settings["inner_steps"]):
            return None
        if rates and "lr" not in rates and not rates.keys() >= {f"lr.{name}" for name in names}:
            return None
        factor = 1.0 if self.rate is None else self.rate(settings, inputs)

        def size(name: str, k: int) -> Any:
            rate: Any = rates.get("lr", rates.get(f"lr.{name}", settings["inner_lr"]))
            return factor * (rate[k] if each else rate)

        sizes = [{name: size(name, k) for name in names} for k in range(steps)]
        with np.errstate(all="ignore"):
            descent = Descent(self, settings, sizes, names, factor)
            blocks = self._blocks(descent, initial, inputs)
            value, adjoint, learned = self._back(blocks, len(inputs["support_x"]))
        gradients = {name: adjoint[name] for name in initial}
        for name, rate in rates.items():
            gradients[name] = factor * _of_rate(
                name.removeprefix("lr").removeprefix("."), rate, learned, each
            )
        return {"loss": value, "gradients": {name: gradients[name] for name in params}}

    def _blocks(self, descent: Descent, initial: Flat, inputs: Values) -> list[Block]:
        """The tasks at once, or, where one leaves something behind for the next, one after the other."""
        tasks = len(inputs["support_x"])
        together = self.leaks is None and self.statistics != "running over tasks"
        size = tasks if together else 1
        start = {name: np.broadcast_to(p, (size, *p.shape)) for name, p in initial.items()}
        blocks: list[Block] = []
        for first in range(0, tasks, size):
            part = {name: value[first : first + size] for name, value in inputs.items() if name != "params"}
            params = blocks[-1].end if blocks and self.leaks else start
            blocks.append(descent.run(params, part, blocks[-1].buffers if blocks else None))
        return blocks

    def _back(self, blocks: list[Block], tasks: int) -> tuple[np.ndarray, Flat, list[Flat]]:
        """The mean loss, and the sums over tasks of the cotangents of the start and of each step's sizes."""
        weights = np.full(tasks, 1 / tasks) if self.counts is None else self.counts(tasks)
        value = np.asarray(weights @ np.concatenate([block.value for block in blocks]))
        parts = np.split(weights, np.cumsum([len(block.value) for block in blocks])[:-1])
        total: Flat = {}
        learned: list[Flat] = [{} for _ in blocks[0].trajectory]
        onward: Flat = {}
        for block, weight in zip(reversed(blocks), reversed(parts), strict=True):
            share = weight * tasks if self.pollution_sum else weight
            adjoint, rates = block.back(weight, onward, share)
            learned = [
                added(before, {name: leaf.sum(0) for name, leaf in own.items()})
                for before, own in zip(learned, rates, strict=True)
            ]
            if self.leaks == "all before":
                onward = adjoint
            else:
                total = added(total, {name: leaf.sum(0) for name, leaf in adjoint.items()})
        return value, total or {name: leaf.sum(0) for name, leaf in onward.items()}, learned


def _of_rate(name: str, rate: np.ndarray, learned: list[Flat], each: bool) -> np.ndarray:
    """The gradient of a learned step size, from the cotangents of the sizes in each step.

    Args:
        name: Of the parameter that it is for; empty if it is for all.
        rate: The step size.
        learned: For each step the cotangents under the names of the parameters.
        each: Whether there is one for each step.
    """
    shape = rate.shape[1:] if each else rate.shape
    steps = []
    for own in learned:
        leaves = [leaf for key, leaf in own.items() if name in ("", key)]
        steps.append(sum((leaf if shape else leaf.sum() for leaf in leaves), np.zeros(shape)))
    if not each:
        return np.asarray(sum(steps, np.zeros(shape)))
    return np.stack([*steps, *[np.zeros(shape)] * (len(rate) - len(steps))])
