"""Gradient descent and its exact way back, with every knob that a mistake turns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from mltk import ops, tree
from mltk.derivatives import AnalyticEngine, Linearization, Objective
from mltk.models import Sequential
from mltk.normalization import modes, with_support_rows
from mltk.oracle.case import Values
from mltk.oracle.layers import model
from mltk.oracle.mistakes.altered import Clip, Softmax, fresh_buffers, tracked

Flat = dict[str, np.ndarray]
"""Arrays under dotted names, with a leading task axis."""

Where = Literal["both", "inner", "outer"]


@dataclass(frozen=True)
class Loop:
    """MAML and its relatives with the mistakes of an implementation; the defaults make none.

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
        softmax: Which losses take the softmax of the outputs for the outputs.
        smoothing: Label smoothing.
        smoothed: Which losses it is in.
        leaks: How a task starts where the one before it ended: its gradient is taken at its own start, or
            goes back through all tasks before.
        pollutes: How the inner gradients are added to the meta-gradient: through the steps before them, as
            they are, or the last one alone.
        pollution_sum: Whether they are summed over the tasks, and not averaged.
        counts: From the number of tasks to the weight of each.
    """

    inner: tuple[str, ...] = ("support",)
    outer: tuple[str, ...] = ("query",)
    more_steps: int = 0
    hessian: Callable[[int, int], float] | None = None
    rate: Callable[[Mapping[str, Any], Values], float] | None = None
    adapted: Callable[[list[str], list[str]], list[str]] | None = None
    carry: float = 0.0
    decay: float = 0.0
    clip: Clip | None = None
    statistics: Literal["evaluation", "running", "running over tasks", "batch", "support"] | None = None
    softmax: Where | None = None
    smoothing: float = 0.0
    smoothed: Where = "both"
    leaks: Literal["own start", "all before"] | None = None
    pollutes: Literal["through", "direct", "last"] | None = None
    pollution_sum: bool = False
    counts: Callable[[int], np.ndarray] | None = None

    def outputs(self, settings: Mapping[str, Any], inputs: Values) -> Values | None:
        """Loss and gradients, each the mean over tasks; ``None`` if the loop cannot be run so."""
        params = inputs["params"]
        initial = {name: p for name, p in params.items() if not name.startswith("lr.")}
        rates = {name[3:]: p for name, p in params.items() if name.startswith("lr.")}
        if "lr" in params or any(rates[k].shape not in ((), initial[k].shape) for k in rates):
            return None  # learned step sizes for each step
        names = list(settings.get("adapted") or initial)
        if self.adapted is not None:
            names = self.adapted(list(initial), names)
        if not names or (rates and not rates.keys() >= set(names)):
            return None
        factor = 1.0 if self.rate is None else self.rate(settings, inputs)
        sizes = {name: factor * (rates[name] if rates else settings["inner_lr"]) for name in names}
        with np.errstate(all="ignore"):
            descent = Descent(self, settings, max(settings["inner_steps"] + self.more_steps, 0), sizes)
            blocks = self._blocks(descent, initial, inputs)
            value, adjoint, learned = self._back(blocks, len(inputs["support_x"]))
        gradients = {name: adjoint[name] for name in initial}
        for name, rate in rates.items():
            g = factor * learned.get(name, np.zeros_like(initial[name]))
            gradients[f"lr.{name}"] = g if rate.shape else g.sum()
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

    def _back(self, blocks: list[Block], tasks: int) -> tuple[np.ndarray, Flat, Flat]:
        """The mean loss, and the sums over tasks of the cotangents of the start and of the step sizes."""
        weights = np.full(tasks, 1 / tasks) if self.counts is None else self.counts(tasks)
        value = np.asarray(weights @ np.concatenate([block.query.value for block in blocks]))
        parts = np.split(weights, np.cumsum([len(block.query.value) for block in blocks])[:-1])
        total: Flat = {}
        learned: Flat = {}
        onward: Flat = {}
        for block, weight in zip(reversed(blocks), reversed(parts), strict=True):
            g = tree.flatten(block.query.grad)
            adjoint = added({name: per_task(weight, leaf) * leaf for name, leaf in g.items()}, onward)
            share = weight * tasks if self.pollution_sum else weight
            adjoint, rates = block.back(adjoint, share)
            learned = added(learned, {name: leaf.sum(0) for name, leaf in rates.items()})
            if self.leaks == "all before":
                onward = adjoint
            else:
                total = added(total, {name: leaf.sum(0) for name, leaf in adjoint.items()})
        return value, total or {name: leaf.sum(0) for name, leaf in onward.items()}, learned


class Step(NamedTuple):
    """What the way back needs of an inner step.

    Attributes:
        lin: The linearisation of the inner loss.
        gradient: The gradient before it is clipped.
        direction: What the parameters moved along.
    """

    lin: Linearization
    gradient: Flat
    direction: Flat


@dataclass(frozen=True)
class Block:
    """Tasks that have descended together.

    Attributes:
        descent: How.
        trajectory: The inner steps.
        end: The adapted parameters.
        query: The linearisation of the outer loss there.
        buffers: The running statistics that batch norms have collected.
    """

    descent: Descent
    trajectory: list[Step]
    end: Flat
    query: Linearization
    buffers: Flat | None

    def back(self, adjoint: Flat, share: np.ndarray) -> tuple[Flat, Flat]:
        """The cotangents of the parameters at the start, and of the step sizes, per task.

        Args:
            adjoint: Those of the adapted parameters.
            share: The weight of each task's inner gradients, where they pollute the result.
        """
        loop, sizes = self.descent.loop, self.descent.sizes
        learned: Flat = {name: np.zeros_like(adjoint[name]) for name in sizes}
        carried = learned
        polluted: Flat = {name: np.zeros_like(leaf) for name, leaf in adjoint.items()}
        for k, step in reversed(list(enumerate(self.trajectory))):
            weight = self.descent.weight(k)
            learned = {name: learned[name] - adjoint[name] * step.direction[name] for name in sizes}
            carried = {name: loop.carry * carried[name] - sizes[name] * adjoint[name] for name in sizes}
            adjoint = self._through(step, adjoint, carried, weight)
            if loop.pollutes is not None and (loop.pollutes != "last" or k == len(self.trajectory) - 1):
                if loop.pollutes == "through":
                    back = {name: -sizes[name] * polluted[name] for name in sizes}
                    polluted = self._through(step, polluted, back, weight)
                own = tree.flatten(step.lin.grad)
                polluted = added(polluted, {name: per_task(share, leaf) * leaf for name, leaf in own.items()})
        return added(adjoint, polluted), learned

    def _through(self, step: Step, adjoint: Flat, directions: Flat, weight: float) -> Flat:
        """The cotangent before a step, from those after it and of the step's direction."""
        if not weight:
            return adjoint
        loop = self.descent.loop
        g = directions if loop.clip is None else loop.clip.pullback(step.gradient, directions)
        curved = tree.flatten(step.lin.hvp(tree.unflatten(g)))
        decayed = {name: loop.decay * leaf for name, leaf in g.items()}
        change = added(curved, decayed)
        return {name: leaf + weight * change[name] for name, leaf in adjoint.items()}


class Descent:
    """An inner loop and what comes after it, for given settings.

    Attributes:
        loop: The mistakes.
        sizes: The step size of each parameter that is adapted.
    """

    def __init__(self, loop: Loop, settings: Mapping[str, Any], steps: int, sizes: Mapping[str, Any]) -> None:
        self.loop, self.sizes = loop, sizes
        self._settings, self._steps = settings, steps
        self._inner, self._outer = self._objective("inner"), self._objective("outer")
        self._network = self._model("inner")

    def weight(self, k: int) -> float:
        """The weight of the Hessian of step ``k`` on the way back."""
        if self.loop.hessian is not None:
            return self.loop.hessian(k, self._steps)
        return 0.0 if self._settings.get("first_order") else 1.0

    def run(self, start: Flat, examples: Values, buffers: Flat | None) -> Block:
        """Descend from parameters with a task axis, and take the outer loss.

        Args:
            start: The parameters.
            examples: The four arrays of the episode.
            buffers: The running statistics that another task has left behind.
        """
        loop, params, engine = self.loop, start, AnalyticEngine()
        x, y = _sets(examples, loop.inner)
        fresh = fresh_buffers(self._network, len(x))
        running = loop.statistics in ("running", "running over tasks")
        buffers = fresh if buffers is None else buffers
        constants = fresh if loop.statistics == "evaluation" else {}
        trajectory: list[Step] = []
        direction: Flat = {}
        for _ in range(self._steps):
            held = tree.unflatten({**params, **constants})
            lin = engine.linearize(self._inner, held, x, y, wrt=tuple(self.sizes))
            if running:
                buffers = tracked(self._network, held, x, buffers)
            gradient = tree.flatten(lin.grad)
            if loop.decay:
                gradient = {name: leaf + loop.decay * params[name] for name, leaf in gradient.items()}
            clipped = gradient if loop.clip is None else loop.clip(gradient)
            direction = added(clipped, {name: loop.carry * leaf for name, leaf in direction.items()})
            trajectory.append(Step(lin, gradient, direction))
            moved = {name: params[name] - self.sizes[name] * leaf for name, leaf in direction.items()}
            params = {**params, **moved}
        held = tree.unflatten({**params, **(buffers if running else constants)})
        return Block(self, trajectory, params, self._query(engine, held, examples, x), buffers)

    def _query(
        self, engine: AnalyticEngine, held: tree.Tree, examples: Values, x: np.ndarray
    ) -> Linearization:
        """The outer loss at adapted parameters."""
        objective = self._outer
        query_x, query_y = _sets(examples, self.loop.outer)
        network = objective.model
        assert isinstance(network, Sequential)
        if "support" in modes(network) and not fresh_buffers(network, 1).keys() <= tree.flatten(held).keys():
            rows = x.shape[1]
            layers = with_support_rows(network, rows)
            assert isinstance(layers, Sequential)
            objective = objective._replace(model=Sequential([*layers.layers, ops.DropRows(rows)]))
            query_x = np.concatenate([x, query_x], axis=1)
        return engine.linearize(objective, held, query_x, query_y, curvature=False)

    def _objective(self, where: Where) -> Objective:
        loop, loss = self.loop, ops.loss(self._settings["loss"])
        if loop.smoothing and loop.smoothed in ("both", where) and isinstance(loss, ops.CrossEntropy):
            loss = ops.CrossEntropy(label_smoothing=loop.smoothing)
        return Objective(self._model(where), loss)

    def _model(self, where: Where) -> Sequential:
        layers = list(model(self._settings["layers"]).layers)
        statistics = self.loop.statistics
        if statistics == "batch" or statistics == "support":
            layers = [
                dataclasses.replace(layer, statistics=statistics)
                if isinstance(layer, ops.BatchNorm)
                else layer
                for layer in layers
            ]
        if self.loop.softmax in ("both", where):
            layers.append(Softmax())
        return Sequential(layers)


def added(a: Flat, b: Flat) -> Flat:
    """The sum of two sets of arrays; one that is missing in either counts as zero."""
    return {**b, **{name: leaf + b[name] if name in b else leaf for name, leaf in a.items()}}


def per_task(numbers: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    """Numbers ``(T,)`` in a shape that multiplies a leaf with a leading task axis."""
    return numbers.reshape(-1, *[1] * (leaf.ndim - 1))


def _sets(examples: Values, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The inputs and targets of several sets, one behind the other."""
    x, y = ([examples[f"{name}_{kind}"] for name in names] for kind in "xy")
    return np.concatenate(x, axis=1), np.concatenate(y, axis=1)
