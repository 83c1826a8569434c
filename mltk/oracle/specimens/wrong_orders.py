"""Wrong derivatives of the inner loop, and wrong numbers of its steps, as users write them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.func import functional_call, grad

from mltk.oracle.specimens.declared import specimen
from mltk.oracle.specimens.network import (
    Arrays,
    Result,
    Task,
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


@specimen("maml", mistake="first-order")
def first_order_by_detach(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML whose inner gradients are detached from the graph."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = meta
        for _ in range(settings.inner_steps):
            value = support_loss(settings, fast, task)
            slopes = torch.autograd.grad(value, list(fast.values()), create_graph=True)
            fast = {
                name: p - settings.inner_lr * g.detach()
                for (name, p), g in zip(fast.items(), slopes, strict=True)
            }
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="first-order")
def first_order_by_data(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that updates ``.data`` of the parameters in place, and puts the old numbers back."""
    module, criterion = settings.module(params), settings.loss_function()
    total = {name: torch.zeros_like(p) for name, p in params.items()}
    losses = []
    for task in tasks(data):
        for _ in range(settings.inner_steps):
            loss = criterion(module(task.support_x), task.support_y)
            slopes = torch.autograd.grad(loss, list(module.parameters()))
            for p, g in zip(module.parameters(), slopes, strict=True):
                p.data -= settings.inner_lr * g
        loss = criterion(module(task.query_x), task.query_y)
        slopes = torch.autograd.grad(loss, list(module.parameters()))
        for name, g in zip(total, slopes, strict=True):
            total[name] += g
        losses.append(loss.detach())
        module.load_state_dict(params)
    return mean(losses), {name: g / len(losses) for name, g in total.items()}


@specimen("maml", mistake="first-order")
def first_order_by_copy(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML whose inner loop is an optimiser on a deep copy, whose gradients are copied back."""
    module, criterion = settings.module(params), settings.loss_function()
    named = dict(module.named_parameters())
    losses = []
    for task in tasks(data):
        fast = copy.deepcopy(module)
        optimizer = torch.optim.SGD(fast.parameters(), lr=settings.inner_lr)
        for _ in range(settings.inner_steps):
            optimizer.zero_grad()
            torch.autograd.backward(criterion(fast(task.support_x), task.support_y))
            optimizer.step()
        fast.zero_grad()
        loss = criterion(fast(task.query_x), task.query_y)
        torch.autograd.backward(loss)
        losses.append(loss.detach())
        for name, p in fast.named_parameters():
            g = torch.zeros_like(p) if p.grad is None else p.grad
            old = named[name].grad
            named[name].grad = g / len(data.support_x) + (0 if old is None else old)
    return mean(losses), grads_of(named)


@specimen("maml", mistake="first-order")
def first_order_without_graph(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that forgot ``create_graph=True``."""
    meta = learnable(params)
    loss = mean(
        query_loss(settings, adapt(settings, meta, task, create_graph=False), task) for task in tasks(data)
    )
    return loss.detach(), gradients(loss, meta)


@specimen("anil", "boil", mistake="first-order")
def first_order_subset(params: Arrays, data: Any, settings: Any) -> Result:
    """ANIL or BOIL that forgot ``create_graph=True``."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = dict(meta)
        for _ in range(settings.inner_steps):
            moving = {name: fast[name] for name in settings.adapted}
            value = support_loss(settings, fast, task)
            fast.update(descend(moving, value, settings.inner_lr, create_graph=False))
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("meta-sgd", mistake="first-order")
def first_order_rates(params: Arrays, data: Any, settings: Any) -> Result:
    """Meta-SGD whose inner gradients are detached; the rates still learn."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = {name: p for name, p in meta.items() if not name.startswith("lr.")}
        for _ in range(settings.inner_steps):
            slopes = gradients(support_loss(settings, fast, task), fast)
            fast = {name: p - meta[f"lr.{name}"] * slopes[name] for name, p in fast.items()}
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("fomaml", mistake="second-order-kept")
def second_order_kept(params: Arrays, data: Any, settings: Any) -> Result:
    """First-order MAML that says so and keeps the graph of the inner gradients."""
    meta = learnable(params)
    loss = mean(query_loss(settings, adapt(settings, meta, task), task) for task in tasks(data))
    return loss.detach(), gradients(loss, meta)


@specimen("fomaml", mistake="second-order-kept")
def second_order_kept_by_func(params: Arrays, data: Any, settings: Any) -> Result:
    """First-order MAML by `torch.func.grad` of a function that calls `torch.func.grad`."""
    module, criterion = settings.module(params), settings.loss_function()

    def loss_of(p: Arrays, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = criterion(functional_call(module, p, (x,)), y)
        return value

    def meta_loss(p: Arrays) -> torch.Tensor:
        values = []
        for task in tasks(data):
            fast = p
            for _ in range(settings.inner_steps):
                slopes = grad(loss_of)(fast, task.support_x, task.support_y)
                fast = {name: fast[name] - settings.inner_lr * slopes[name] for name in fast}
            values.append(loss_of(fast, task.query_x, task.query_y))
        return mean(values)

    return meta_loss(params).detach(), grad(meta_loss)(dict(params))


@specimen("maml", mistake="truncated")
def graph_of_last_step(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that keeps the graph of the last inner step only, to save memory."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = meta
        for step in range(settings.inner_steps):
            value = support_loss(settings, fast, task)
            last = step == settings.inner_steps - 1
            fast = descend(fast, value, settings.inner_lr, create_graph=last)
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="truncated")
def graph_of_first_step(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that differentiates the inner gradient of the first step only."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = meta
        for step in range(settings.inner_steps):
            slopes = torch.autograd.grad(
                support_loss(settings, fast, task), list(fast.values()), create_graph=True
            )
            if step > 0:
                slopes = tuple(g.detach() for g in slopes)
            fast = {
                name: p - settings.inner_lr * g for (name, p), g in zip(fast.items(), slopes, strict=True)
            }
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="inner-step-missing")
def last_step_missing(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that computes the last inner gradient and never takes its step."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = moved = meta
        for _ in range(settings.inner_steps):
            fast = moved
            moved = descend(fast, support_loss(settings, fast, task), settings.inner_lr)
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="inner-step-missing")
def first_step_missing(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML whose loop counts from one."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = meta
        for _ in range(1, settings.inner_steps):
            fast = descend(fast, support_loss(settings, fast, task), settings.inner_lr)
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="extra-step")
def extra_step(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML with one step before the loop, and all of them in it."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = descend(meta, support_loss(settings, meta, task), settings.inner_lr)
        losses.append(query_loss(settings, adapt(settings, fast, task), task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="query-loss-at-initial-parameters")
def query_at_the_start(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that puts the query set through the module that the inner loop did not move."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        adapt(settings, meta, task)
        losses.append(query_loss(settings, meta, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="support-query-swapped")
def swapped(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that adapts to the query set and is judged on the support set."""
    meta = learnable(params)
    losses = []
    for support_x, support_y, query_x, query_y in tasks(data):
        task = Task(query_x, query_y, support_x, support_y)
        losses.append(query_loss(settings, adapt(settings, meta, task), task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)
