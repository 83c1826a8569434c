"""An inner loop, the query losses after it and the exact way back, for several tasks at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from mltk import ops, tree
from mltk.contracts import Linearization, Objective
from mltk.engines.analytic import AnalyticEngine
from mltk.models import Sequential
from mltk.normalization import modes, with_support_rows
from mltk.oracle.case import Values
from mltk.oracle.layers import model
from mltk.oracle.mistakes.altered import Softmax, fresh_buffers, tracked
from mltk.oracle.mistakes.altered_norm import ClassMean
from mltk.oracle.mistakes.loop_knobs import LoopKnobs, Where

Flat = dict[str, np.ndarray]
"""Arrays under dotted names, with a leading task axis."""


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


class Judged(NamedTuple):
    """An outer loss.

    Attributes:
        value: Of each task.
        grad: For the parameters that it was taken at.
    """

    value: np.ndarray
    grad: Flat


@dataclass(frozen=True)
class Block:
    """Tasks that have descended together.

    Attributes:
        descent: How.
        trajectory: The inner steps.
        end: The adapted parameters.
        judged: The outer losses that count, under the number of steps before them.
        buffers: The running statistics that batch norms have collected.
    """

    descent: Descent
    trajectory: list[Step]
    end: Flat
    judged: dict[int, Judged]
    buffers: Flat | None

    @property
    def value(self) -> np.ndarray:
        """The outer loss of each task."""
        weights = self.descent.weights
        return np.asarray(sum(weights[k] * each.value for k, each in self.judged.items()))

    def back(self, weight: np.ndarray, onward: Flat, share: np.ndarray) -> tuple[Flat, list[Flat]]:
        """The cotangents of the parameters at the start, and of each step's sizes, per task.

        Args:
            weight: Of each task.
            onward: What goes back to the end from tasks that started there.
            share: The weight of each task's inner gradients, where they pollute the result.
        """
        loop = self.descent.loop
        adjoint = added(self._own(len(self.trajectory), weight), onward)
        if self.descent.reptile:
            return self._way(weight), [{} for _ in self.trajectory]
        learned: list[Flat] = []
        carried: Flat = {name: np.zeros_like(adjoint[name]) for name in self.descent.names}
        polluted: Flat = {}
        for k, step in reversed(list(enumerate(self.trajectory))):
            sizes = self.descent.sizes[k]
            learned.append({name: -adjoint[name] * step.direction[name] for name in sizes})
            carried = {name: loop.carry * carried[name] - sizes[name] * adjoint[name] for name in sizes}
            adjoint = self._through(step, adjoint, carried, self.descent.weight(k))
            adjoint = added(adjoint, self._own(k, weight))
            if loop.pollutes is not None and (loop.pollutes != "last" or k == len(self.trajectory) - 1):
                own = {name: per_task(share, leaf) * leaf for name, leaf in flat(step.lin.grad).items()}
                if not loop.pollutes_all:
                    own = {name: own[name] for name in sizes}
                if loop.pollutes == "through":
                    adjoint = added(adjoint, own)
                else:
                    polluted = added(polluted, own)
        return added(adjoint, polluted), learned[::-1]

    def _own(self, k: int, weight: np.ndarray) -> Flat:
        """The cotangents that the outer loss after ``k`` steps gives to the parameters there."""
        if k not in self.judged:
            return {name: np.zeros_like(leaf) for name, leaf in self.end.items()}
        counted = self.descent.weights[k] * weight
        return {name: per_task(counted, leaf) * leaf for name, leaf in self.judged[k].grad.items()}

    def _way(self, weight: np.ndarray) -> Flat:
        """What Reptile takes for the gradient: the sum of its steps, each divided by the step size."""
        loop, settings = self.descent.loop, self.descent.settings
        if loop.way == "query":
            return self._own(len(self.trajectory), weight)
        factor = self.descent.factor
        ways = [{name: factor * leaf for name, leaf in step.direction.items()} for step in self.trajectory]
        chosen = {"first": ways[:1], "last": ways[-1:]}.get(loop.way or "", ways)
        times = {"mean": 1 / max(len(ways), 1), "moved": settings["inner_lr"]}.get(loop.way or "", 1.0)
        total: Flat = {name: np.zeros_like(leaf) for name, leaf in self.end.items()}
        for way in chosen:
            total = added(total, way)
        return {name: times * per_task(weight, leaf) * leaf for name, leaf in total.items()}

    def _through(self, step: Step, adjoint: Flat, directions: Flat, weight: float) -> Flat:
        """The cotangent before a step, from those after it and of the step's direction."""
        if not weight:
            return adjoint
        loop = self.descent.loop
        g = directions if loop.clip is None else loop.clip.pullback(step.gradient, directions)
        curved = flat(step.lin.hvp(tree.unflatten(g)))
        decayed = {name: loop.decay * leaf for name, leaf in g.items()}
        change = added(curved, decayed)
        return {name: leaf + weight * change[name] for name, leaf in adjoint.items()}


class Descent:
    """An inner loop and what comes after it, for given settings.

    Attributes:
        loop: The mistakes.
        settings: Of the case.
        sizes: The step size of each parameter that is adapted, for each step.
        names: The parameters that are adapted.
        weights: Of the query losses after none, one, … steps.
    """

    def __init__(
        self,
        loop: LoopKnobs,
        settings: Mapping[str, Any],
        sizes: Sequence[Mapping[str, Any]],
        names: Sequence[str],
        factor: float,
    ) -> None:
        self.loop, self.settings, self.sizes, self.names, self.factor = loop, settings, sizes, names, factor
        self.reptile = "inner_batch" in settings
        steps = len(sizes)
        self.weights = np.eye(steps + 1)[-1] if loop.every is None else loop.every(steps)

    def weight(self, k: int) -> float:
        """The weight of the Hessian of step ``k`` on the way back."""
        if self.loop.hessian is not None:
            return self.loop.hessian(k, len(self.sizes))
        return 0.0 if self.settings.get("first_order") else 1.0

    def run(self, start: Flat, examples: Values, buffers: Flat | None) -> Block:
        """Descend from parameters with a task axis, and take the outer losses.

        Args:
            start: The parameters.
            examples: The four arrays of the episode.
            buffers: The running statistics that another task has left behind.
        """
        loop, params, engine = self.loop, start, AnalyticEngine()
        x, y = _sets(examples, loop.inner)
        objective, before = self._pass("inner", examples)
        network = self._model("inner")
        fresh = fresh_buffers(network, len(x))
        running = loop.statistics in ("running", "running over tasks")
        buffers = fresh if buffers is None else buffers
        constants = fresh if loop.statistics == "evaluation" else {}
        trajectory: list[Step] = []
        judged: dict[int, Judged] = {}
        direction: Flat = {}
        for k, sizes in enumerate(self.sizes):
            if self.weights[k]:
                beside = buffers if running else constants
                judged[k] = self._judged(start, params, beside, examples)
            held = tree.unflatten({**params, **constants})
            rows = self._rows(k, x.shape[1])
            seen = x[:, rows] if before is None else np.concatenate([before, x[:, rows]], axis=1)
            wrt = None if loop.pollutes_all else tuple(self.names)
            lin = engine.linearize(objective, held, seen, y[:, rows], wrt=wrt)
            if running:
                buffers = tracked(network, held, x, buffers)
            gradient = {name: leaf for name, leaf in flat(lin.grad).items() if name in sizes}
            if loop.decay:
                gradient = {name: leaf + loop.decay * params[name] for name, leaf in gradient.items()}
            clipped = gradient if loop.clip is None else loop.clip(gradient)
            direction = added(clipped, {name: loop.carry * leaf for name, leaf in direction.items()})
            trajectory.append(Step(lin, gradient, direction))
            moved = {name: params[name] - sizes[name] * leaf for name, leaf in direction.items()}
            params = {**params, **moved}
        if self.weights[-1]:
            beside = buffers if running else constants
            judged[len(trajectory)] = self._judged(start, params, beside, examples)
        return Block(self, trajectory, params, judged, buffers)

    def _rows(self, k: int, shots: int) -> slice:
        """The support examples of step ``k``: all of them but in Reptile with batches."""
        size = min(self.settings.get("inner_batch") or shots, shots)
        if self.loop.batches == "whole":
            size = shots
        first = 0 if self.loop.batches == "first" else k % (shots // size) * size
        return slice(first, first + size)

    def _judged(self, start: Flat, params: Flat, beside: Flat, examples: Values) -> Judged:
        """The outer loss at some parameters."""
        objective, before = self._pass("outer", examples)
        x, y = _sets(examples, self.loop.outer)
        network = objective.model
        assert isinstance(network, Sequential)
        if before is None and "support" in modes(network) and not beside:
            before, _ = _sets(examples, self.loop.inner)
            layers = with_support_rows(network, before.shape[1])
            assert isinstance(layers, Sequential)
            objective = objective._replace(model=Sequential([*layers.layers, ops.DropRows(before.shape[1])]))
        x = x if before is None else np.concatenate([before, x], axis=1)
        held = tree.unflatten({**params, **beside})
        if self.loop.stale is not None:
            last = {name: np.broadcast_to(leaf[-1:], leaf.shape) for name, leaf in params.items()}
            back = start if self.loop.stale == "start" else last
            return _stale(objective, held, tree.unflatten({**back, **beside}), x, y)
        lin = AnalyticEngine().linearize(objective, held, x, y, curvature=False)
        return Judged(lin.value, flat(lin.grad))

    def _pass(
        self, where: Literal["inner", "outer"], examples: Values
    ) -> tuple[Objective, np.ndarray | None]:
        """What is differentiated, and the examples in front that only batch norms see."""
        network, loss, loop = self._model(where), ops.loss(self.settings["loss"]), self.loop
        if isinstance(loss, ops.CrossEntropy):
            if loop.smoothing and loop.smoothed in ("both", where):
                loss = ops.CrossEntropy(label_smoothing=loop.smoothing)
            elif loop.by_class in ("both", where):
                loss = ClassMean()
        if loop.joint not in ("both", where):
            return Objective(network, loss), None
        before, _ = _sets(examples, loop.outer if where == "inner" else loop.inner)
        return Objective(Sequential([*network.layers, ops.DropRows(before.shape[1])]), loss), before

    def _model(self, where: Where) -> Sequential:
        layers = list(model(self.settings["layers"]).layers)
        loop, statistics = self.loop, self.loop.statistics
        if loop.joint in ("both", where):
            statistics = "batch"
        for place, layer in enumerate(layers):
            if isinstance(layer, ops.BatchNorm):
                if statistics == "batch" or statistics == "support":
                    layer = dataclasses.replace(layer, statistics=statistics)
                layers[place] = layer if loop.norm is None else loop.norm(layer, where)
        if loop.softmax in ("both", where):
            layers.append(Softmax())
        return Sequential(layers)


def _stale(objective: Objective, held: tree.Tree, back: tree.Tree, x: np.ndarray, y: np.ndarray) -> Judged:
    """A loss at some parameters, and what its way back gives that meets others in their place."""
    assert isinstance(objective.model, Sequential)
    passed = []
    for name, layer in objective.model.named_layers:
        x, residuals = layer.forward(held.get(name, {}), x)
        passed.append((name, layer, residuals))
    value, residuals = objective.loss.forward({"target": y}, x)
    _, g = objective.loss.vjp({}, residuals, np.ones(len(value)))
    grads: tree.Tree = {}
    for name, layer, residuals in reversed(passed):
        own, g = layer.vjp(back.get(name, {}), residuals, g)
        if own:
            grads[name] = own
    return Judged(value, flat(grads))


def flat(arrays: tree.Tree) -> Flat:
    """Arrays under dotted names."""
    return tree.flatten(arrays)


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
