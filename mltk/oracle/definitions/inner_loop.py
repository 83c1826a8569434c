"""Gradient descent in an inner loop, with a knob for every mistake; derivatives are automatic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from mltk.oracle.case import Values
from mltk.oracle.definitions import network
from mltk.oracle.definitions.clipping import clipped
from mltk.oracle.definitions.inner_loop_knobs import LoopKnobs, Settings
from mltk.oracle.definitions.running_statistics import fresh, tracked
from mltk.oracle.definitions.tensor import Tensor, constant, grad, grad_once

Params = dict[str, Tensor]
Pass = Literal["inner", "outer"]


class Unrolled(NamedTuple):
    """What a loop gives.

    Attributes:
        loss: The mean over the tasks.
        gradients: Computes them, under the names of the parameters.
    """

    loss: Tensor
    gradients: Callable[[], Params]


class Ended(NamedTuple):
    """Tasks that have descended.

    Attributes:
        losses: The outer loss of each.
        end: The adapted parameters.
        polluted: What the inner gradients add to the result: it has them for its gradient.
        way: What Reptile takes for the gradient, per task.
        buffers: The running statistics that batch norms have collected.
    """

    losses: Tensor
    end: Params
    polluted: Tensor
    way: Params
    buffers: Params


def unrolled(
    knobs: LoopKnobs,
    settings: Settings,
    inputs: Values,
    leaf: Callable[[np.ndarray], Tensor],
    *,
    together: bool = True,
) -> Unrolled | None:
    """MAML, its relatives and Reptile; ``None`` if the loop cannot be run so.

    Args:
        knobs: The mistakes.
        settings: Of the case.
        inputs: Of the case.
        leaf: From an array to what is differentiated, in the precision of the computation.
        together: Whether tasks descend side by side, where none leaves something behind for the next.
    """
    meta = {name: leaf(array) for name, array in inputs["params"].items()}
    descent = _Descent(knobs, settings, meta)
    if not descent.possible():
        return None
    descent.factor = 1.0 if knobs.rate is None else knobs.rate(settings, inputs)
    tasks = len(inputs["support_x"])
    together = together and knobs.leaks is None and knobs.statistics != "running over tasks"
    size = tasks if together else 1
    start = descent.initial(size)
    starts: list[Params] = []
    ended: list[Ended] = []
    for first in range(0, tasks, size):
        if ended and knobs.leaks:
            start = ended[-1].end
            start = (
                {n: Tensor(p.value, varies=True) for n, p in start.items()}
                if (knobs.leaks == "own start")
                else start
            )
        starts.append(start)
        part = {name: value[first : first + size] for name, value in inputs.items() if name != "params"}
        ended.append(descent.run(start, part, ended[-1].buffers if ended else {}))
    return descent.judged(ended, starts, tasks)


class _Descent:
    """An inner loop for given settings."""

    def __init__(self, knobs: LoopKnobs, settings: Settings, meta: Params) -> None:
        self.knobs, self.settings, self.meta = knobs, settings, meta
        self.own = {name: p for name, p in meta.items() if name.partition(".")[0] != "lr"}
        self.rates = {name: p for name, p in meta.items() if name not in self.own}
        self.names = list(settings.get("adapted") or self.own)
        if knobs.adapted is not None:
            self.names = knobs.adapted(list(self.own), self.names)
        self.steps = max((settings["inner_steps"] or 0) + knobs.more_steps, 0)
        self.reptile, self.factor = "inner_batch" in settings, 1.0
        self.weights = np.eye(self.steps + 1)[-1] if knobs.every is None else knobs.every(self.steps)
        self.like = next(iter(self.own.values()))

    def possible(self) -> bool:
        """Whether there is something to adapt, and a step size for it."""
        if not self.names or (self.settings.get("lr_per_step") and self.steps > self.settings["inner_steps"]):
            return False
        return "lr" in self.rates or self.rates.keys() >= ({f"lr.{n}" for n in self.names if self.rates})

    def initial(self, tasks: int) -> Params:
        """The parameters of each task before the first step."""
        return {name: p.broadcast_to((tasks, *p.shape)) for name, p in self.own.items()}

    def size(self, name: str, k: int) -> Tensor | float:
        """The step size of a parameter: what is learned as ``lr`` or ``lr.<name>``, or the constant."""
        rate = self.rates.get("lr", self.rates.get(f"lr.{name}"))
        if rate is None:
            return float(self.factor * self.settings["inner_lr"])
        rate = rate[k] if self.settings.get("lr_per_step") else rate
        return rate if self.factor == 1 else self.factor * rate

    def curvature(self, k: int) -> float:
        """The weight of the Hessian of a step on the way back."""
        if self.knobs.hessian is not None:
            return self.knobs.hessian(k, self.steps)
        return 0.0 if self.settings.get("first_order") or self.reptile else 1.0

    def run(self, start: Params, examples: Values, buffers: Params) -> Ended:
        """Descend from parameters with a task axis, and take the outer losses."""
        knobs, params, names = self.knobs, start, self.names
        running = knobs.statistics in ("running", "running over tasks")
        beside = buffers if knobs.statistics == "running over tasks" else {}
        if (running and not beside) or knobs.statistics == "evaluation":
            beside = fresh(self.settings["layers"], len(examples["support_x"]), self.like)
        direction: Params = {}
        polluted, losses, way = constant(0.0, like=self.like), [], []
        x, y = _sets(examples, knobs.inner)
        for k in range(self.steps):
            if self.weights[k]:
                losses.append(self._weighted(k, start, params, beside, examples))
            rows = self._rows(k, x.shape[1])
            held = params if running else {**params, **beside}
            value = self._loss("inner", held, x[:, rows], y[:, rows], examples)
            if running:
                beside = tracked(self.settings["layers"], params, constant(x, like=self.like), beside)
            wanted = list(self.own) if knobs.pollutes_all else names
            back = grad if self.curvature(k) else grad_once
            raw = dict(zip(wanted, back(value.sum(), [params[name] for name in wanted]), strict=True))
            direction = self._direction(k, {name: raw[name] for name in names}, params, direction)
            if knobs.pollutes is not None and (knobs.pollutes != "last" or k == self.steps - 1):
                seen = params if knobs.pollutes == "through" else self.own
                polluted = sum(((raw[n].detach() * seen[n]).sum() for n in wanted), polluted)
            way.append(direction)
            moved = {name: params[name] - self.size(name, k) * d for name, d in direction.items()}
            params = {**params, **moved}
        if self.weights[-1]:
            losses.append(self._weighted(self.steps, start, params, beside, examples))
        total = losses[0]
        for each in losses[1:]:
            total = total + each
        return Ended(total, params, polluted, self._way(way) if self.reptile else {}, beside)

    def _direction(self, k: int, g: Params, params: Params, before: Params) -> Params:
        """What a step moves along."""
        knobs, weight = self.knobs, self.curvature(k)
        if knobs.decay:
            g = {name: each + knobs.decay * params[name] for name, each in g.items()}
        if knobs.clip is not None:
            g = clipped(*knobs.clip, g)
        if weight != 1:
            constants = {name: each.detach() for name, each in g.items()}
            g = (
                {n: weight * (each - constants[n]) + constants[n] for n, each in g.items()}
                if weight
                else constants
            )
        if not knobs.carry or not before:
            return g
        return {name: each + knobs.carry * before[name] for name, each in g.items()}

    def _rows(self, k: int, shots: int) -> slice:
        """The support examples of a step: all of them but in Reptile with batches."""
        size = min(self.settings.get("inner_batch") or shots, shots)
        if self.knobs.batches == "whole":
            size = shots
        first = 0 if self.knobs.batches == "first" else k % (shots // size) * size
        return slice(first, first + size)

    def _weighted(self, k: int, start: Params, params: Params, beside: Params, examples: Values) -> Tensor:
        """The outer loss after ``k`` steps, times its weight."""
        x, y = _sets(examples, self.knobs.outer)
        if self.knobs.stale is None:
            value = self._loss("outer", {**params, **beside}, x, y, examples)
        else:
            value = self._stale(start, params, beside, x, y, examples)
        return value if self.knobs.every is None else self.weights[k] * value

    def _stale(
        self, start: Params, params: Params, beside: Params, x: np.ndarray, y: np.ndarray, examples: Values
    ) -> Tensor:
        """The outer loss, whose way back meets other weights: they are overwritten before it."""
        held = {name: Tensor(p.value.copy(), varies=True) for name, p in params.items()}
        value = self._loss("outer", {**held, **beside}, x, y, examples)
        for name, p in held.items():
            p.value[...] = start[name].value if self.knobs.stale == "start" else params[name].value[-1:]
        found = dict(zip(held, grad_once(value.sum(), list(held.values())), strict=True))
        linear = value.detach()
        for name, p in params.items():
            product = found[name].detach() * (p - p.detach())
            linear = linear + product.sum(tuple(range(1, product.ndim)))
        return linear

    def _way(self, steps: list[Params]) -> Params:
        """The sum of the steps, each divided by the step size."""
        way, nothing = self.knobs.way or "", {n: 0 * p.detach() for n, p in self.own.items()}
        times = {"mean": 1 / max(len(steps), 1), "moved": self.settings["inner_lr"]}.get(way, 1.0)
        chosen = {"first": steps[:1], "last": steps[-1:]}.get(way, steps)
        total: Params = nothing
        for step in chosen:
            total = {n: p + step[n] for n, p in total.items()}
        factor = times * self.factor
        return total if factor == 1 else {n: factor * p for n, p in total.items()}

    def _loss(self, where: Pass, params: Params, x: np.ndarray, y: np.ndarray, examples: Values) -> Tensor:
        """The loss of each task."""
        knobs, kind = self.knobs, self.settings["loss"]
        joint = knobs.joint in ("both", where)
        layers = [self._layer(layer, where, joint) for layer in self.settings["layers"]]
        before, rows = None, x.shape[1]
        if joint:
            before, _ = _sets(examples, knobs.outer if where == "inner" else knobs.inner)
        elif where == "outer" and _looks_back(layers, params):
            before, _ = _sets(examples, knobs.inner)
        behind = 0 if before is None else before.shape[1]
        if before is not None:
            x, rows = np.concatenate([before, x], axis=1), behind
        outputs = network.apply(layers, params, constant(x, like=self.like), support_rows=rows)[:, behind:]
        if knobs.softmax in ("both", where):
            outputs = network.softmax(outputs)
        if kind == "mse":
            return network.mse(outputs, constant(y, like=self.like))
        target = network.one_hot(y, outputs.shape[-1], self.like)
        if knobs.smoothing and knobs.smoothed in ("both", where):
            target = (1 - knobs.smoothing) * target + knobs.smoothing / outputs.shape[-1]
        return network.cross_entropy(outputs, target, by_class=knobs.by_class in ("both", where))

    def _layer(self, layer: Mapping[str, Any], where: Pass, joint: bool) -> Mapping[str, Any]:
        """The settings of a layer in a pass."""
        if layer["layer"] != "batch_norm":
            return layer
        statistics = "batch" if joint else self.knobs.statistics
        if statistics in ("batch", "support"):
            layer = {**layer, "statistics": statistics}
        return layer if self.knobs.norm is None else self.knobs.norm(layer, where)

    def judged(self, ended: list[Ended], starts: list[Params], tasks: int) -> Unrolled:
        """The mean of the outer losses, and its gradient or what is taken for it."""
        knobs, counts = self.knobs, self.knobs.counts
        value = polluted = constant(0.0, like=self.like)
        ways = {name: 0 * p.detach() for name, p in self.own.items()}
        first = 0
        for each in ended:
            size = len(each.losses)
            share = None if counts is None else constant(counts(tasks)[first : first + size], like=self.like)
            value = value + (each.losses.sum() / tasks if share is None else (share * each.losses).sum())
            for name, way in each.way.items():
                weighted = way if share is None else way * share.reshape((-1, *[1] * (way.ndim - 1)))
                weighted = weighted if weighted.ndim == self.own[name].ndim else weighted.sum(0)
                ways[name] = ways[name] + (weighted / tasks if share is None else weighted)
            polluted = polluted + (each.polluted if knobs.pollution_sum else each.polluted / tasks)
            first += size

        def gradients() -> Params:
            if self.reptile and knobs.way != "query":
                return ways
            total = value + polluted
            found = dict(zip(self.meta, grad_once(total, list(self.meta.values())), strict=True))
            for start in starts[1:] if knobs.leaks == "own start" else ():
                for name, g in zip(start, grad_once(total, list(start.values())), strict=True):
                    found[name] = found[name] + g[0]
            return found

        return Unrolled(value, gradients)


def _looks_back(layers: Sequence[Mapping[str, Any]], params: Params) -> bool:
    """Whether batch norms take the statistics of the support set, and have no others."""
    stored = any(name.endswith(".running_mean") for name in params)
    return not stored and any(layer.get("statistics") == "support" for layer in layers)


def _sets(examples: Values, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The inputs and targets of several sets, one behind the other."""
    x, y = ([examples[f"{name}_{kind}"] for name in names] for kind in "xy")
    return np.concatenate(x, axis=1), np.concatenate(y, axis=1)
