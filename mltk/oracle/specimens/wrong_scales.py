"""Sums that should be means, wrong inner rates, and wrong scales on top of another mistake."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody's name for it

from mltk.oracle.specimens.declared import specimen
from mltk.oracle.specimens.network import (
    Arrays,
    Result,
    Task,
    adapt,
    descend,
    forward,
    gradients,
    grads_of,
    learnable,
    mean,
    query_loss,
    query_outputs,
    support_loss,
    tasks,
)


def summed_query_loss(settings: Any, params: Arrays, task: Task) -> Tensor:
    """The query loss with ``reduction="sum"``."""
    outputs = query_outputs(settings, params, task)
    loss: Tensor = settings.loss_function()(outputs, task.query_y, reduction="sum")
    return loss


def example_losses(settings: Any, outputs: Tensor, target: Tensor) -> Tensor:
    """A loss for each example: the mean of squares over output features, or the cross-entropy."""
    if settings.loss == "mse":
        return (outputs - target).square().mean(1)
    return -outputs.log_softmax(1).gather(1, target[:, None])[:, 0]


@specimen("maml", mistake="sum-over-tasks")
def sum_over_tasks(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that adds the losses of the tasks and does not divide."""
    meta = learnable(params)
    loss = torch.stack(
        [query_loss(settings, adapt(settings, meta, task), task) for task in tasks(data)]
    ).sum()
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="sum-over-tasks")
def sum_over_tasks_in_grad(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that calls ``backward`` for each task and prints the mean loss."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        loss = query_loss(settings, adapt(settings, meta, task), task)
        torch.autograd.backward(loss)
        losses.append(loss.item())
    return torch.tensor(sum(losses) / len(losses), dtype=data.query_x.dtype), grads_of(meta)


@specimen("maml", mistake="sum-over-examples")
def sum_over_examples(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that adds the query losses of the examples."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        outputs = query_outputs(settings, adapt(settings, meta, task), task)
        losses.append(example_losses(settings, outputs, task.query_y).sum())
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="sum-over-examples")
def sum_over_examples_by_reduction(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML with ``reduction="sum"`` in the query loss, which for squared errors adds output features, too."""
    meta = learnable(params)
    loss = mean(summed_query_loss(settings, adapt(settings, meta, task), task) for task in tasks(data))
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="sum-over-tasks-and-examples")
def sum_over_everything(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that adds the query losses of all examples of all tasks."""
    meta = learnable(params)
    total = torch.zeros((), dtype=data.query_x.dtype)
    for task in tasks(data):
        outputs = query_outputs(settings, adapt(settings, meta, task), task)
        for loss in example_losses(settings, outputs, task.query_y):
            total = total + loss
    return total.detach(), gradients(total, meta)


@specimen("maml", mistake="inner-loss-summed")
def inner_loss_summed(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML whose inner loss adds the examples, so that its rate is that many times too large."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = meta
        for _ in range(settings.inner_steps):
            outputs = forward(settings.layers, fast, task.support_x)
            value = example_losses(settings, outputs, task.support_y).sum()
            fast = descend(fast, value, settings.inner_lr)
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="inner-loss-summed")
def inner_loss_by_reduction(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML with ``reduction="sum"`` in the inner loss alone."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = meta
        for _ in range(settings.inner_steps):
            outputs = forward(settings.layers, fast, task.support_x)
            value = settings.loss_function()(outputs, task.support_y, reduction="sum")
            fast = descend(fast, value, settings.inner_lr)
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="inner-rate-factor")
def rate_over_tasks(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML whose inner loss is the mean over the tasks, which adapt together: each moves too little."""
    meta = learnable(params)
    fast = [{name: p * 1 for name, p in meta.items()} for _ in data.support_x]
    for _ in range(settings.inner_steps):
        value = mean(support_loss(settings, p, task) for p, task in zip(fast, tasks(data), strict=True))
        slopes = iter(torch.autograd.grad(value, [w for p in fast for w in p.values()], create_graph=True))
        fast = [{name: w - settings.inner_lr * next(slopes) for name, w in p.items()} for p in fast]
    loss = mean(query_loss(settings, p, task) for p, task in zip(fast, tasks(data), strict=True))
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="inner-rate-factor")
def rate_over_steps(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that divides the inner rate by the number of steps."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = meta
        for _ in range(settings.inner_steps):
            value = support_loss(settings, fast, task)
            fast = descend(fast, value, settings.inner_lr / settings.inner_steps)
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="inner-rate-factor")
def half_inner_loss(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML whose inner loss has the factor one half of the textbooks."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = meta
        for _ in range(settings.inner_steps):
            fast = descend(fast, 0.5 * support_loss(settings, fast, task), settings.inner_lr)
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="first-order", scale="sum-over-tasks")
def first_order_and_sum(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML without ``create_graph`` and without a division by the number of tasks."""
    meta = learnable(params)
    total = torch.zeros((), dtype=data.query_x.dtype)
    for task in tasks(data):
        total = total + query_loss(settings, adapt(settings, meta, task, create_graph=False), task)
    return total.detach(), gradients(total, meta)


@specimen("maml", mistake="first-order", scale="gradient-accumulated-twice")
def first_order_and_twice(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML without ``create_graph`` whose gradient is accumulated twice."""
    meta = learnable(params)
    loss = mean(
        query_loss(settings, adapt(settings, meta, task, create_graph=False), task) for task in tasks(data)
    )
    torch.autograd.backward(loss, retain_graph=True)
    torch.autograd.backward(loss)
    return loss.detach(), grads_of(meta)


@specimen("maml", mistake="extra-step", scale="sum-over-examples")
def extra_step_and_sum_over_examples(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML with a step too many, which adds the query losses of the examples."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = meta
        for _ in range(settings.inner_steps + 1):
            fast = descend(fast, support_loss(settings, fast, task), settings.inner_lr)
        losses.append(example_losses(settings, query_outputs(settings, fast, task), task.query_y).sum())
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="inner-loss-summed", scale="sum-over-examples")
def summed_everywhere(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML with one criterion for both loops, which adds the examples."""
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = meta
        for _ in range(settings.inner_steps):
            outputs = forward(settings.layers, fast, task.support_x)
            value = example_losses(settings, outputs, task.support_y).sum()
            fast = descend(fast, value, settings.inner_lr)
        losses.append(example_losses(settings, query_outputs(settings, fast, task), task.query_y).sum())
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="truncated", scale="sum-over-tasks-and-examples")
def truncated_and_sum_over_everything(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML with the graph of the last step alone, which adds all query losses of all tasks."""
    meta = learnable(params)
    total = torch.zeros((), dtype=data.query_x.dtype)
    for task in tasks(data):
        fast = meta
        for step in range(settings.inner_steps):
            value = support_loss(settings, fast, task)
            last = step + 1 == settings.inner_steps
            fast = descend(fast, value, settings.inner_lr, create_graph=last)
        outputs = query_outputs(settings, fast, task)
        total = total + example_losses(settings, outputs, task.query_y).sum()
    return total.detach(), gradients(total, meta)


@specimen("maml", mistake="support-query-swapped", scale="sum-over-tasks")
def swapped_and_sum(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML with support and query exchanged, and a sum over the tasks."""
    meta = learnable(params)
    values = []
    for support_x, support_y, query_x, query_y in tasks(data):
        task = Task(query_x, query_y, support_x, support_y)
        values.append(query_loss(settings, adapt(settings, meta, task), task))
    loss = torch.stack(values).sum()
    return loss.detach(), gradients(loss, meta)


@specimen("fomaml", mistake="second-order-kept", scale="gradient-accumulated-twice")
def kept_order_and_twice(params: Arrays, data: Any, settings: Any) -> Result:
    """First-order MAML that keeps the Hessian and accumulates its gradient twice."""
    meta = learnable(params)
    for _ in range(2):
        loss = mean(query_loss(settings, adapt(settings, meta, task), task) for task in tasks(data))
        torch.autograd.backward(loss)
    return loss.detach(), grads_of(meta)


@specimen("maml", mistake="softmax-twice", scale="sum-over-tasks")
def softmax_and_sum(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML with a softmax before the cross-entropy, and a sum over the tasks."""
    if settings.loss != "cross_entropy":
        raise NotImplementedError("only classification has a softmax")
    meta = learnable(params)
    values = []
    for task in tasks(data):
        fast = meta
        for _ in range(settings.inner_steps):
            probabilities = F.softmax(forward(settings.layers, fast, task.support_x), dim=1)
            fast = descend(fast, F.cross_entropy(probabilities, task.support_y), settings.inner_lr)
        probabilities = F.softmax(query_outputs(settings, fast, task), dim=1)
        values.append(F.cross_entropy(probabilities, task.query_y))
    loss = torch.stack(values).sum()
    return loss.detach(), gradients(loss, meta)
