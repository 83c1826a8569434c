"""State that was not put back, gradients that were not cleared, and wrong subsets and rates."""

from __future__ import annotations

import copy
from typing import Any

import torch

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


@specimen("maml", mistake="state-leaks-between-tasks")
def never_restored(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML whose fast weights go on from task to task."""
    meta = learnable(params)
    fast, losses = meta, []
    for task in tasks(data):
        fast = adapt(settings, fast, task)
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("fomaml", mistake="state-leaks-between-tasks")
def module_never_restored(params: Arrays, data: Any, settings: Any) -> Result:
    """First-order MAML that moves the module itself with an optimiser, and never loads the old weights."""
    module, criterion = settings.module(params), settings.loss_function()
    optimizer = torch.optim.SGD(module.parameters(), lr=settings.inner_lr)
    total = {name: torch.zeros_like(p) for name, p in params.items()}
    losses = []
    for x, y, query_x, query_y in tasks(data):
        for _ in range(settings.inner_steps):
            optimizer.zero_grad()
            torch.autograd.backward(criterion(module(x), y))
            optimizer.step()
        optimizer.zero_grad()
        loss = criterion(module(query_x), query_y)
        torch.autograd.backward(loss)
        losses.append(loss.detach())
        for name, p in module.named_parameters():
            if p.grad is not None:
                total[name] += p.grad / len(data.support_x)
    return mean(losses), total


@specimen("anil", mistake="state-leaks-between-tasks")
def shallow_copy(params: Arrays, data: Any, settings: Any) -> Result:
    """ANIL or BOIL that adapts a shallow copy of a dict made once, outside the loop over tasks."""
    meta = learnable(params)
    fast, losses = dict(meta), []
    for task in tasks(data):
        for _ in range(settings.inner_steps):
            moving = {name: fast[name] for name in settings.adapted}
            fast.update(descend(moving, support_loss(settings, fast, task), settings.inner_lr))
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="gradient-accumulated-twice")
def backward_twice(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that calls ``backward`` for each task and for their mean."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        loss = query_loss(settings, adapt(settings, meta, task), task)
        torch.autograd.backward(loss / len(data.support_x), retain_graph=True)
        losses.append(loss)
    mean_loss = mean(losses)
    torch.autograd.backward(mean_loss)
    return mean_loss.detach(), grads_of(meta)


@specimen("fomaml", mistake="gradient-accumulated-twice")
def no_zero_grad_outside(params: Arrays, data: Any, settings: Any) -> Result:
    """First-order MAML whose second call in a row still has the gradient of the first."""
    meta = learnable(params)
    loss = torch.zeros(())
    for _ in range(2):
        loss = mean(
            query_loss(settings, adapt(settings, meta, task, create_graph=False), task)
            for task in tasks(data)
        )
        torch.autograd.backward(loss)
    return loss.detach(), grads_of(meta)


@specimen("maml", mistake="outer-gradient-accumulates")
def inner_backward_reaches_the_leaves(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML whose inner ``backward`` adds to the gradients of the initial parameters, too."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = {name: p.clone() for name, p in meta.items()}
        for _ in range(settings.inner_steps):
            for p in fast.values():
                p.retain_grad()
            torch.autograd.backward(support_loss(settings, fast, task), create_graph=True)
            fast = {name: p - settings.inner_lr * p.grad for name, p in fast.items() if p.grad is not None}
        loss = query_loss(settings, fast, task)
        torch.autograd.backward(loss / len(data.support_x))
        losses.append(loss.detach())
    found = {name: g.detach() for name, g in grads_of(meta).items()}
    for p in meta.values():
        p.grad = None  # with its graph it would keep itself alive
    return mean(losses), found


@specimen("fomaml", mistake="outer-gradient-accumulates")
def no_zero_grad_before_the_query(params: Arrays, data: Any, settings: Any) -> Result:
    """First-order MAML whose query gradient is added to the last support gradient."""
    module, criterion = settings.module(params), settings.loss_function()
    total = {name: torch.zeros_like(p) for name, p in params.items()}
    losses = []
    for task in tasks(data):
        fast = copy.deepcopy(module)
        optimizer = torch.optim.SGD(fast.parameters(), lr=settings.inner_lr)
        for _ in range(settings.inner_steps):
            optimizer.zero_grad()
            torch.autograd.backward(criterion(fast(task.support_x), task.support_y))
            optimizer.step()
        loss = criterion(fast(task.query_x), task.query_y)
        torch.autograd.backward(loss)
        losses.append(loss.detach())
        for name, p in fast.named_parameters():
            if p.grad is not None:
                total[name] += p.grad / len(data.support_x)
    return mean(losses), total


@specimen("fomaml", mistake="inner-gradients-accumulate")
def no_zero_grad_in_the_loop(params: Arrays, data: Any, settings: Any) -> Result:
    """First-order MAML whose inner optimiser steps along the sum of all inner gradients so far."""
    module, criterion = settings.module(params), settings.loss_function()
    total = {name: torch.zeros_like(p) for name, p in params.items()}
    losses = []
    for task in tasks(data):
        fast = copy.deepcopy(module)
        optimizer = torch.optim.SGD(fast.parameters(), lr=settings.inner_lr)
        for _ in range(settings.inner_steps):
            torch.autograd.backward(criterion(fast(task.support_x), task.support_y))
            optimizer.step()
        optimizer.zero_grad()
        loss = criterion(fast(task.query_x), task.query_y)
        torch.autograd.backward(loss)
        losses.append(loss.detach())
        for name, p in fast.named_parameters():
            if p.grad is not None:
                total[name] += p.grad / len(data.support_x)
    return mean(losses), total


@specimen("maml", mistake="inner-gradients-accumulate")
def inner_gradients_added_up(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that adds each inner gradient to a buffer and steps along the buffer."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast, buffer = meta, {name: torch.zeros_like(p) for name, p in meta.items()}
        for _ in range(settings.inner_steps):
            value = support_loss(settings, fast, task)
            slopes = torch.autograd.grad(value, list(fast.values()), create_graph=True)
            buffer = {name: buffer[name] + g for name, g in zip(fast, slopes, strict=True)}
            fast = {name: p - settings.inner_lr * buffer[name] for name, p in fast.items()}
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="one-task-only", scale="divided-by-tasks")
def last_task_only(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that overwrites the gradient of each task by that of the next."""
    losses, found = [], {}
    for task in tasks(data):
        meta = learnable(params)
        loss = query_loss(settings, adapt(settings, meta, task), task)
        found = gradients(loss / len(data.support_x), meta)
        losses.append(loss.detach())
    return mean(losses), found


@specimen("maml", mistake="momentum-in-inner-loop")
def inner_momentum(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML whose inner optimiser has a momentum of 0.9."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast, velocity = meta, {name: torch.zeros_like(p) for name, p in meta.items()}
        for _ in range(settings.inner_steps):
            value = support_loss(settings, fast, task)
            slopes = torch.autograd.grad(value, list(fast.values()), create_graph=True)
            velocity = {name: 0.9 * velocity[name] + g for name, g in zip(fast, slopes, strict=True)}
            fast = {name: p - settings.inner_lr * velocity[name] for name, p in fast.items()}
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


def _subset(
    params: Arrays, data: Any, settings: Any, adapted: list[str], *, sum_tasks: bool = False
) -> Result:
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = dict(meta)
        for _ in range(settings.inner_steps):
            moving = {name: fast[name] for name in adapted}
            fast.update(descend(moving, support_loss(settings, fast, task), settings.inner_lr))
        losses.append(query_loss(settings, fast, task))
    loss = torch.stack(losses).sum() if sum_tasks else mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("anil", "boil", mistake="adapts-all-instead-of-subset")
def adapts_everything(params: Arrays, data: Any, settings: Any) -> Result:
    """ANIL or BOIL whose inner loop moves all parameters."""
    return _subset(params, data, settings, list(params))


@specimen("anil", mistake="adapts-all-instead-of-subset", scale="sum-over-tasks")
def adapts_everything_and_sum(params: Arrays, data: Any, settings: Any) -> Result:
    """ANIL or BOIL whose inner loop moves all parameters, with a sum over the tasks."""
    return _subset(params, data, settings, list(params), sum_tasks=True)


@specimen("anil", "boil", mistake="anil-boil-exchanged")
def exchanged(params: Arrays, data: Any, settings: Any) -> Result:
    """ANIL that freezes the head, or BOIL that freezes the body: the condition is the wrong way round."""
    return _subset(params, data, settings, [name for name in params if name not in settings.adapted])


@specimen("anil", mistake="adapted-subset-wrong")
def forgets_the_bias(params: Arrays, data: Any, settings: Any) -> Result:
    """ANIL that adapts the weight of the head and not its bias."""
    return _subset(params, data, settings, [name for name in settings.adapted if name.endswith("weight")])


@specimen("boil", mistake="adapted-subset-wrong")
def forgets_the_first_layer(params: Arrays, data: Any, settings: Any) -> Result:
    """BOIL that leaves the first layer as it is, too."""
    adapted = [name for name in settings.adapted if not name.startswith("0.")]
    if not adapted:
        raise NotImplementedError("only for networks of three layers or more")
    return _subset(params, data, settings, adapted)


def _meta_sgd(params: Arrays, data: Any, settings: Any) -> tuple[torch.Tensor, Arrays]:
    """The loss of Meta-SGD with its graph, and the leaves."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = {name: p for name, p in meta.items() if not name.startswith("lr.")}
        for _ in range(settings.inner_steps):
            value = support_loss(settings, fast, task)
            slopes = torch.autograd.grad(value, list(fast.values()), create_graph=True)
            fast = {name: fast[name] - meta[f"lr.{name}"] * g for name, g in zip(fast, slopes, strict=True)}
        losses.append(query_loss(settings, fast, task))
    return mean(losses), meta


@specimen("meta-sgd", mistake="rate-gradient-missing")
def rates_do_not_learn(params: Arrays, data: Any, settings: Any) -> Result:
    """Meta-SGD that passes the numbers of the rates to the inner loop, which cuts them from the graph."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = {name: p for name, p in meta.items() if not name.startswith("lr.")}
        for _ in range(settings.inner_steps):
            value = support_loss(settings, fast, task)
            slopes = torch.autograd.grad(value, list(fast.values()), create_graph=True)
            fast = {
                name: fast[name] - meta[f"lr.{name}"].data * g for name, g in zip(fast, slopes, strict=True)
            }
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("meta-sgd", mistake="rate-gradient-sign")
def rates_climb(params: Arrays, data: Any, settings: Any) -> Result:
    """Meta-SGD with a rate gradient by hand, query gradient times support gradient without its minus."""
    loss, meta = _meta_sgd(params, data, settings)
    found = gradients(loss, meta)
    return loss.detach(), {name: -g if name.startswith("lr.") else g for name, g in found.items()}


@specimen("meta-sgd", mistake="rate-gradient-sign", scale="sum-over-tasks")
def rates_climb_and_sum(params: Arrays, data: Any, settings: Any) -> Result:
    """Meta-SGD with the wrong sign of the rate gradient, and a sum over the tasks."""
    loss, meta = _meta_sgd(params, data, settings)
    loss = loss * len(data.support_x)
    found = gradients(loss, meta)
    return loss.detach(), {name: -g if name.startswith("lr.") else g for name, g in found.items()}
