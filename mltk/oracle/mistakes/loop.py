"""Gradient descent and its exact way back, with every knob that a mistake turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mltk.oracle.case import Values
from mltk.oracle.mistakes.descent import Block, Descent, Flat, added
from mltk.oracle.mistakes.loop_knobs import LoopKnobs, Settings


@dataclass(frozen=True)
class Loop(LoopKnobs):
    """MAML, its relatives and Reptile with the mistakes that its knobs make."""

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
