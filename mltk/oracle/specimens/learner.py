"""MAML and its relatives as a class in plain Torch, whose methods wrong specimens override."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mltk.oracle.specimens.declared import Implementation, specimen
from mltk.oracle.specimens.network import Arrays, Result, Task, gradients, learnable, passed

EXACT = ("maml", "anil", "boil", "meta-sgd", "maml-learned-rates")
UNROLLED = ("maml", "fomaml", "anil", "boil", "meta-sgd", "maml-learned-rates")
RATES = ("meta-sgd", "maml-learned-rates")
SUBSETS = ("anil", "boil")


@specimen(*UNROLLED, "reptile")
class Learner(Implementation):
    """An inner loop on each task, and the gradient of the mean query loss through all of it.

    With the settings of Reptile: the way of the parameters in the place of that gradient.
    """

    first_order: bool | None = None
    """Whether inner gradients are constants; ``None`` for what the settings say."""

    def __init__(self, params: Arrays, data: Any, settings: Any) -> None:
        super().__init__(params, data, settings)
        self.meta = learnable(params)
        self.start = {name: p for name, p in self.meta.items() if name.partition(".")[0] != "lr"}
        self.steps = settings.inner_steps
        self.names = self.adapted()

    def answer(self) -> Result:
        """Loss and meta-gradient."""
        if "inner_batch" in self.settings:
            return self.task_by_task(self.reptile)
        value = self.over_tasks([self.task_loss(task) for task in self.tasks()])
        return value.detach(), self.gradient(value)

    def task_by_task(self, found: Callable[[Task], Result]) -> Result:
        """Loss and meta-gradient from those of each task."""
        losses, slopes = zip(*[found(task) for task in self.tasks()], strict=True)
        mean = {name: self.over_tasks([each[name] for each in slopes]).detach() for name in slopes[0]}
        return self.over_tasks(losses).detach(), mean

    def reptile(self, task: Task) -> Result:
        """Loss and direction of Reptile on a task."""
        if not self.settings.inner_lr:
            raise NotImplementedError("a way cannot be divided by a step size of zero")
        start = self.start
        end = self.adapt(start, task)
        return self.query_loss(end, task), self.way(start, end)

    def way(self, start: Arrays, end: Arrays) -> Arrays:
        """What Reptile takes for a gradient."""
        return {name: (start[name] - end[name]) / self.settings.inner_lr for name in start}

    def batch(self, task: Task, k: int) -> Task:
        """The support examples of a step: all of them but in Reptile with batches."""
        size = min(self.settings.get("inner_batch") or len(task.support_x), len(task.support_x))
        first = k % (len(task.support_x) // size) * size
        rows = slice(first, first + size)
        return task._replace(support_x=task.support_x[rows], support_y=task.support_y[rows])

    def tasks(self) -> Iterator[Task]:
        """One after the other."""
        data = self.data
        return map(Task, data.support_x, data.support_y, data.query_x, data.query_y)

    def adapted(self) -> list[str]:
        """What the inner loop moves."""
        return list(self.settings.get("adapted") or self.start)

    def gradient(self, value: Tensor) -> Arrays:
        """That of the meta-loss."""
        return gradients(value, self.meta)

    def over_tasks(self, values: Sequence[Tensor]) -> Tensor:
        """The meta-loss from the losses of the tasks."""
        return torch.stack(list(values)).mean(0)

    def task_loss(self, task: Task) -> Tensor:
        """The query loss after adaptation."""
        return self.query_loss(self.adapt(self.start, task), task)

    def adapt(self, fast: Arrays, task: Task) -> Arrays:
        """The inner loop."""
        for k in range(self.steps):
            fast = self.step(fast, task, k)
        return fast

    def step(self, fast: Arrays, task: Task, k: int) -> Arrays:
        """One step of the inner loop."""
        slopes = self.slopes(self.support_loss(fast, self.batch(task, k)), fast, k)
        return {**fast, **{name: fast[name] - self.rate(name, k) * g for name, g in slopes.items()}}

    def slopes(self, value: Tensor, fast: Arrays, k: int) -> Arrays:
        """The gradient of the inner loss, as a graph unless it is first-order."""
        found = torch.autograd.grad(value, [fast[name] for name in self.names], create_graph=True)
        constant = self.settings.get("first_order") if self.first_order is None else self.first_order
        return dict(zip(self.names, [g.detach() for g in found] if constant else found, strict=True))

    def rate(self, name: str, k: int) -> Any:
        """The step size of a parameter in a step."""
        learned = self.meta.get("lr", self.meta.get(f"lr.{name}"))
        if learned is None:
            return self.settings.inner_lr
        return learned[k] if self.settings.get("lr_per_step") else learned

    def support_loss(self, fast: Arrays, task: Task) -> Tensor:
        """The inner loss."""
        return self.loss(self.support_outputs(fast, task), task.support_y)

    def query_loss(self, fast: Arrays, task: Task) -> Tensor:
        """The outer loss."""
        return self.loss(self.query_outputs(fast, task), task.query_y)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """Of some outputs."""
        value: Tensor = self.settings.loss_function()(outputs, target)
        return value

    def support_outputs(self, fast: Arrays, task: Task) -> Tensor:
        """The network on the support set."""
        return self.network(fast, task.support_x)

    def query_outputs(self, fast: Arrays, task: Task) -> Tensor:
        """The network on the query set, behind the support set if that normalises it."""
        if not any(layer.get("statistics") == "support" for layer in self.settings.layers):
            return self.network(fast, task.query_x)
        rows = len(task.support_x)
        return self.network(fast, torch.cat([task.support_x, task.query_x]), rows)[rows:]

    def network(self, fast: Arrays, x: Tensor, support_rows: int | None = None) -> Tensor:
        """The outputs for some inputs."""
        for position, layer in enumerate(self.settings.layers):
            start = f"{position}."
            p = {name.removeprefix(start): array for name, array in fast.items() if name.startswith(start)}
            normed = layer["layer"] == "batch_norm"
            x = self.normalise(layer, p, x, support_rows) if normed else passed(layer, p, x)
        return x

    def normalise(self, layer: Mapping[str, Any], p: Arrays, x: Tensor, rows: int | None) -> Tensor:
        """A batch norm by all rows, or by the support set in front."""
        mean, variance = self.statistics(x[:rows] if layer["statistics"] == "support" else x)
        weight, bias = (p[name].view(mean.shape) for name in ("weight", "bias"))
        return (x - mean) / self.deviation(variance, layer["eps"]) * weight + bias

    def statistics(self, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each channel."""
        axes = [axis for axis in range(seen.ndim) if axis != 1]
        variance, mean = torch.var_mean(seen, axes, correction=0, keepdim=True)
        return mean, variance

    def deviation(self, variance: Tensor, eps: float) -> Tensor:
        """What is divided by."""
        return (variance + eps).sqrt()
