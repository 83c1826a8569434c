"""Correct gradient-based learners, in the ways that users write them; none may be accused."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad, grad_and_value, vmap

from mltk.oracle.specimens.declared import specimen
from mltk.oracle.specimens.network import (
    Arrays,
    Result,
    adapt,
    descend,
    gradients,
    grads_of,
    learnable,
    mean,
    query_loss,
    support_loss,
    tasks,
)


@specimen("maml")
def maml_by_autograd(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML: each task's steps in one graph, differentiated once."""
    meta = learnable(params)
    loss = mean(query_loss(settings, adapt(settings, meta, task), task) for task in tasks(data))
    return loss.detach(), gradients(loss, meta)


@specimen("maml")
def maml_by_backward(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML: a backward for each task, which adds to the gradients of the leaves."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        value = query_loss(settings, adapt(settings, meta, task), task)
        torch.autograd.backward(value / len(data.support_x))
        losses.append(value.detach())
    return mean(losses), grads_of(meta)


@specimen("maml")
def maml_by_vmap(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML: `torch.func`, all tasks at once."""
    module, criterion = settings.module(params), settings.loss_function()

    def loss_of(p: Arrays, x: Tensor, y: Tensor) -> Tensor:
        value: Tensor = criterion(functional_call(module, p, (x,)), y)
        return value

    def task_loss(
        p: Arrays, support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor
    ) -> Tensor:
        for _ in range(settings.inner_steps):
            g = grad(loss_of)(p, support_x, support_y)
            p = {name: p[name] - settings.inner_lr * g[name] for name in p}
        return loss_of(p, query_x, query_y)

    arrays = (data.support_x, data.support_y, data.query_x, data.query_y)
    values = vmap(grad_and_value(task_loss), in_dims=(None, 0, 0, 0, 0))
    g, losses = values(dict(params), *arrays)
    return losses.mean(), {name: each.mean(0) for name, each in g.items()}


@specimen("maml")
def maml_by_hand(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML: back through the steps with a Hessian-vector product each, without a graph of the loop."""
    total = {name: torch.zeros_like(p) for name, p in params.items()}
    losses = []
    for task in tasks(data):
        path = [learnable(params)]
        for _ in range(settings.inner_steps):
            value = support_loss(settings, path[-1], task)
            path.append(learnable(descend(path[-1], value, settings.inner_lr, create_graph=False)))
        loss = query_loss(settings, path[-1], task)
        losses.append(loss.detach())
        adjoint = list(gradients(loss, path[-1]).values())
        for start in reversed(path[:-1]):
            leaves = list(start.values())
            slopes = torch.autograd.grad(support_loss(settings, start, task), leaves, create_graph=True)
            products = torch.autograd.grad(slopes, leaves, adjoint)
            adjoint = [a - settings.inner_lr * h for a, h in zip(adjoint, products, strict=True)]
        for name, a in zip(total, adjoint, strict=True):
            total[name] += a / len(data.support_x)
    return mean(losses), total


@specimen("fomaml")
def fomaml_by_detach(params: Arrays, data: Any, settings: Any) -> Result:
    """First-order MAML: inner gradients are constants."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = meta
        for _ in range(settings.inner_steps):
            g = gradients(support_loss(settings, fast, task), fast)
            fast = {name: fast[name] - settings.inner_lr * g[name].detach() for name in fast}
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("fomaml")
def fomaml_by_sgd(params: Arrays, data: Any, settings: Any) -> Result:
    """First-order MAML: an optimiser moves a copy of the module, whose gradient is copied back."""
    module, criterion = settings.module(params), settings.loss_function()
    losses, total = [], {name: torch.zeros_like(p) for name, p in params.items()}
    for task in tasks(data):
        fast = copy.deepcopy(module)
        optimizer = torch.optim.SGD(fast.parameters(), lr=settings.inner_lr)
        for _ in range(settings.inner_steps):
            optimizer.zero_grad()
            torch.autograd.backward(criterion(fast(task.support_x), task.support_y))
            optimizer.step()
        optimizer.zero_grad()
        value = criterion(fast(task.query_x), task.query_y)
        torch.autograd.backward(value)
        losses.append(value.detach())
        for name, p in fast.named_parameters():
            if p.grad is not None:
                total[name] += p.grad / len(data.query_x)
    return mean(losses), total


@specimen("fomaml")
def fomaml_at_the_end(params: Arrays, data: Any, settings: Any) -> Result:
    """First-order MAML: the query gradient where the inner loop ended."""
    found = []
    for task in tasks(data):
        fast = learnable(params)
        for _ in range(settings.inner_steps):
            value = support_loss(settings, fast, task)
            fast = learnable(descend(fast, value, settings.inner_lr, create_graph=False))
        value = query_loss(settings, fast, task)
        found.append((value.detach(), gradients(value, fast)))
    mean_gradient = {name: torch.stack([g[name] for _, g in found]).mean(0) for name in params}
    return mean(value for value, _ in found), mean_gradient


@specimen("anil", "boil")
def subset_in_the_loop(params: Arrays, data: Any, settings: Any) -> Result:
    """ANIL and BOIL: the inner loop moves the parameters that the settings name."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = dict(meta)
        for _ in range(settings.inner_steps):
            moving = {name: fast[name] for name in settings.adapted}
            fast |= descend(moving, support_loss(settings, fast, task), settings.inner_lr)
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("anil", "boil")
def subset_by_mask(params: Arrays, data: Any, settings: Any) -> Result:
    """ANIL and BOIL: a mask of ones and zeros on the inner gradients."""
    meta = learnable(params)
    total = torch.zeros_like(next(iter(params.values())).sum())
    for task in tasks(data):
        fast = meta
        for _ in range(settings.inner_steps):
            value = support_loss(settings, fast, task)
            slopes = torch.autograd.grad(value, list(fast.values()), create_graph=True)
            mask = [1.0 if name in settings.adapted else 0.0 for name in fast]
            fast = {
                name: p - settings.inner_lr * m * g
                for (name, p), m, g in zip(fast.items(), mask, slopes, strict=True)
            }
        total = total + query_loss(settings, fast, task)
    loss = total / len(data.support_x)
    torch.autograd.backward(loss)
    return loss.detach(), grads_of(meta)


@specimen("meta-sgd")
def meta_sgd(params: Arrays, data: Any, settings: Any) -> Result:
    """Meta-SGD: a learned rate for each element."""
    meta = learnable(params)
    rates = {name.removeprefix("lr."): p for name, p in meta.items() if name.startswith("lr.")}
    losses = []
    for task in tasks(data):
        fast = {name: meta[name] for name in rates}
        for _ in range(settings.inner_steps):
            value = support_loss(settings, fast, task)
            slopes = torch.autograd.grad(value, list(fast.values()), create_graph=True)
            fast = {name: fast[name] - rates[name] * g for name, g in zip(fast, slopes, strict=True)}
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("reptile")
def reptile(params: Arrays, data: Any, settings: Any) -> Result:
    """Reptile: the sum of the inner gradients, which is the way of the parameters divided by the rate."""
    losses, total = [], {name: torch.zeros_like(p) for name, p in params.items()}
    for task in tasks(data):
        fast = learnable(params)
        size = min(settings.inner_batch or len(task.support_x), len(task.support_x))
        for step in range(settings.inner_steps):
            first = step % (len(task.support_x) // size) * size
            rows = slice(first, first + size)
            batch = task._replace(support_x=task.support_x[rows], support_y=task.support_y[rows])
            slopes = gradients(support_loss(settings, fast, batch), fast)
            for name, g in slopes.items():
                total[name] += g / len(data.support_x)
            fast = learnable({name: p - settings.inner_lr * slopes[name] for name, p in fast.items()})
        losses.append(query_loss(settings, fast, task).detach())
    return mean(losses), total
