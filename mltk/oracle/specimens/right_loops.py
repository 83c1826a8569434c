# ruff: noqa: D102 - `Learner` says what each method is for, and a specimen how it is done
"""Correct gradient-based learners, in the ways that users write them; none may be accused."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, grad_and_value, vmap

from mltk.oracle.specimens.declared import specimen
from mltk.oracle.specimens.learner import Learner
from mltk.oracle.specimens.network import Arrays, Result, Task, gradients, grads_of, learnable


@specimen("maml")
class MamlByAutograd(Learner):
    """Each task's steps in one graph, differentiated once."""

    def step(self, fast: Arrays, task: Task, k: int) -> Arrays:
        value = self.support_loss(fast, task)
        slopes = torch.autograd.grad(value, list(fast.values()), create_graph=True)
        moved = zip(fast.items(), slopes, strict=True)
        return {name: p - self.settings.inner_lr * g for (name, p), g in moved}


@specimen("maml")
class MamlByBackward(Learner):
    """A backward for each task, which adds to the gradients of the leaves."""

    def answer(self) -> Result:
        losses = []
        for task in self.tasks():
            losses.append(self.task_loss(task))
            self.backward(losses[-1])
        return self.over_tasks(losses).detach(), grads_of(self.meta)

    def backward(self, loss: Tensor) -> None:
        """From the loss of a task to the leaves."""
        torch.autograd.backward(loss / len(self.data.support_x))


@specimen("maml")
@specimen("fomaml", mistake="second-order-kept")
def second_order_by_vmap(params: Arrays, data: Any, settings: Any) -> Result:
    """`torch.func`, all tasks at once: `grad` of a function that calls `grad`, which is of second order."""
    module, criterion = settings.module(params), settings.loss_function()

    def loss_of(p: Arrays, x: Tensor, y: Tensor) -> Tensor:
        value: Tensor = criterion(functional_call(module, p, (x,)), y)
        return value

    def task_loss(p: Arrays, task: Task) -> Tensor:
        for _ in range(settings.inner_steps):
            g = grad(loss_of)(p, task.support_x, task.support_y)
            p = {name: p[name] - settings.inner_lr * g[name] for name in p}
        return loss_of(p, task.query_x, task.query_y)

    tasks = Task(data.support_x, data.support_y, data.query_x, data.query_y)
    g, losses = vmap(grad_and_value(task_loss), in_dims=(None, 0))(dict(params), tasks)
    return losses.mean(), {name: each.mean(0) for name, each in g.items()}


@specimen("maml")
class MamlByHand(Learner):
    """Back through the steps with a Hessian-vector product each, without a graph of the loop."""

    def answer(self) -> Result:
        return self.task_by_task(self.by_hand)

    def by_hand(self, task: Task) -> Result:
        """Loss and gradient of a task."""
        path = [learnable(self.start)]
        for k in range(self.steps):
            path.append(learnable(self.step(path[-1], task, k)))
        loss = self.query_loss(path[-1], task)
        adjoint = gradients(loss, path[-1])
        for k, start in reversed(list(enumerate(path[:-1]))):
            slopes = self.slopes(self.support_loss(start, task), start, k)
            vectors = [adjoint[name] for name in slopes]
            products = torch.autograd.grad(list(slopes.values()), list(start.values()), vectors)
            adjoint = {
                name: adjoint[name] - self.settings.inner_lr * h
                for name, h in zip(start, products, strict=True)
            }
        return loss, adjoint


@specimen("fomaml")
@specimen("reptile", mistake="reptile-query-gradient")
class FirstOrderAtTheEnd(Learner):
    """First-order MAML: the query gradient where the inner loop ended."""

    def answer(self) -> Result:
        return self.task_by_task(self.at_the_end)

    def at_the_end(self, task: Task) -> Result:
        """Loss and gradient of a task."""
        end = learnable(self.adapt(self.start, task))
        value = self.query_loss(end, task)
        return value, gradients(value, end)


@specimen("anil", "boil")
class SubsetInTheLoop(Learner):
    """ANIL and BOIL: the inner loop moves the parameters that the settings name, and leaves the others."""

    def step(self, fast: Arrays, task: Task, k: int) -> Arrays:
        moving = {name: fast[name] for name in self.settings.adapted}
        value = self.support_loss(fast, task)
        slopes = torch.autograd.grad(value, list(moving.values()), create_graph=True)
        moved = zip(moving.items(), slopes, strict=True)
        return fast | {name: p - self.settings.inner_lr * g for (name, p), g in moved}


@specimen("anil", "boil")
class SubsetByMask(Learner):
    """ANIL and BOIL: a mask of ones and zeros on the inner gradients."""

    def step(self, fast: Arrays, task: Task, k: int) -> Arrays:
        slopes = torch.autograd.grad(self.support_loss(fast, task), list(fast.values()), create_graph=True)
        mask = {name: float(name in self.settings.adapted) for name in fast}
        masked = {name: mask[name] * g for name, g in zip(fast, slopes, strict=True)}
        return {name: p - self.settings.inner_lr * masked[name] for name, p in fast.items()}


@specimen("meta-sgd")
class MetaSgd(Learner):
    """Meta-SGD: a learned rate for each element."""

    def step(self, fast: Arrays, task: Task, k: int) -> Arrays:
        slopes = torch.autograd.grad(self.support_loss(fast, task), list(fast.values()), create_graph=True)
        moved = zip(fast.items(), slopes, strict=True)
        return {name: p - self.meta[f"lr.{name}"] * g for (name, p), g in moved}


@specimen("reptile")
class Reptile(Learner):
    """The sum of the inner gradients, which is the way of the parameters divided by the rate."""

    def reptile(self, task: Task) -> Result:
        fast, total = self.start, {name: torch.zeros_like(p) for name, p in self.start.items()}
        for k in range(self.steps):
            slopes = gradients(self.support_loss(fast, self.batch(task, k)), fast)
            total = {name: total[name] + g for name, g in slopes.items()}
            fast = learnable({name: p - self.settings.inner_lr * slopes[name] for name, p in fast.items()})
        return self.query_loss(fast, task), total
