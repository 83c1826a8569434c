"""What was left on in losses, inner steps and batch norms: smoothing, decay, clipping, averages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - everybody's name for it

from mltk.oracle.specimens.declared import specimen
from mltk.oracle.specimens.network import (
    Arrays,
    Result,
    adapt,
    batch_norm,
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


def _classification(settings: Any) -> None:
    if settings.loss != "cross_entropy":
        raise NotImplementedError("only for classification")


def _means(params: Arrays, found: list[tuple[Tensor, ...]]) -> Arrays:
    """The means over tasks of their gradients."""
    return {name: torch.stack(g).mean(0) for name, g in zip(params, zip(*found, strict=True), strict=True)}


@specimen("maml", mistake="softmax-twice")
def softmax_twice(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML on a network that ends in a softmax, although the cross-entropy has one."""
    _classification(settings)
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = meta
        for _ in range(settings.inner_steps):
            probabilities = forward(settings.layers, fast, task.support_x).softmax(1)
            fast = descend(fast, F.cross_entropy(probabilities, task.support_y), settings.inner_lr)
        losses.append(F.cross_entropy(query_outputs(settings, fast, task).softmax(1), task.query_y))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("fomaml", mistake="softmax-twice")
def softmax_twice_first_order(params: Arrays, data: Any, settings: Any) -> Result:
    """First-order MAML on a module with a softmax at its end."""
    _classification(settings)
    module = torch.nn.Sequential(*settings.module(params), torch.nn.Softmax(dim=1))
    start = {name: p.detach().clone() for name, p in module.named_parameters()}
    losses, found = [], []
    for task in tasks(data):
        module.load_state_dict(start)
        for _ in range(settings.inner_steps):
            value = F.cross_entropy(module(task.support_x), task.support_y)
            slopes = torch.autograd.grad(value, list(module.parameters()))
            with torch.no_grad():
                for p, g in zip(module.parameters(), slopes, strict=True):
                    p.sub_(settings.inner_lr * g)
        value = F.cross_entropy(module(task.query_x), task.query_y)
        found.append(torch.autograd.grad(value, list(module.parameters())))
        losses.append(value.detach())
    return mean(losses), _means(start, found)


@specimen("maml", mistake="label-smoothing")
def label_smoothing(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML with the label smoothing of ordinary training, in both loops."""
    _classification(settings)
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = meta
        for _ in range(settings.inner_steps):
            value = criterion(forward(settings.layers, fast, task.support_x), task.support_y)
            fast = descend(fast, value, settings.inner_lr)
        losses.append(criterion(query_outputs(settings, fast, task), task.query_y))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="label-smoothing")
def label_smoothing_outside(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML with label smoothing in the query loss alone; regression is right."""
    criterion = settings.loss_function()
    if settings.loss == "cross_entropy":
        criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        outputs = query_outputs(settings, adapt(settings, meta, task), task)
        losses.append(criterion(outputs, task.query_y))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


def _decayed(params: Arrays, data: Any, settings: Any, decay: float) -> Result:
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = meta
        for _ in range(settings.inner_steps):
            value = support_loss(settings, fast, task)
            slopes = torch.autograd.grad(value, list(fast.values()), create_graph=True)
            fast = {
                name: p - settings.inner_lr * (g + decay * p)
                for (name, p), g in zip(fast.items(), slopes, strict=True)
            }
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="weight-decay-in-inner-loop")
def weight_decay(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML whose inner step has the weight decay of the outer optimiser, 5e-4."""
    return _decayed(params, data, settings, 5e-4)


@specimen("maml", mistake="weight-decay-in-inner-loop")
def larger_weight_decay(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML whose inner step has a weight decay of 0.01."""
    return _decayed(params, data, settings, 0.01)


@specimen("fomaml", mistake="weight-decay-in-inner-loop")
def weight_decay_in_sgd(params: Arrays, data: Any, settings: Any) -> Result:
    """First-order MAML whose inner optimiser was made with ``weight_decay=5e-4``."""
    criterion = settings.loss_function()
    found, losses = [], []
    for x, y, query_x, query_y in tasks(data):
        module = settings.module(params)
        optimizer = torch.optim.SGD(module.parameters(), lr=settings.inner_lr, weight_decay=5e-4)
        for _ in range(settings.inner_steps):
            optimizer.zero_grad()
            torch.autograd.backward(criterion(module(x), y))
            optimizer.step()
        value = criterion(module(query_x), query_y)
        found.append(torch.autograd.grad(value, list(module.parameters())))
        losses.append(value.detach())
    return mean(losses), _means(params, found)


def _clip_by_norm(slopes: list[Tensor], largest: float) -> list[Tensor]:
    norm = torch.cat([g.flatten() for g in slopes]).norm()
    factor = (largest / (norm + 1e-6)).clamp(max=1.0)
    return [g * factor for g in slopes]


def _clip_by_value(slopes: list[Tensor], largest: float) -> list[Tensor]:
    return [g.clamp(-largest, largest) for g in slopes]


def _clipped(params: Arrays, data: Any, settings: Any, clip: Any) -> Result:
    meta = learnable(params)
    losses = []
    for task in tasks(data):
        fast = meta
        for _ in range(settings.inner_steps):
            value = support_loss(settings, fast, task)
            slopes = list(torch.autograd.grad(value, list(fast.values()), create_graph=True))
            fast = {
                name: p - settings.inner_lr * g
                for (name, p), g in zip(fast.items(), clip(slopes), strict=True)
            }
        losses.append(query_loss(settings, fast, task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="gradient-clipping")
def clipping_by_norm(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that clips the norm of each task's inner gradient to 1."""
    return _clipped(params, data, settings, partial(_clip_by_norm, largest=1.0))


@specimen("maml", mistake="gradient-clipping")
def clipping_by_value(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that clips each number of the inner gradients to between -1 and 1."""
    return _clipped(params, data, settings, partial(_clip_by_value, largest=1.0))


@specimen("fomaml", mistake="gradient-clipping")
def clipping_in_sgd(params: Arrays, data: Any, settings: Any) -> Result:
    """First-order MAML that calls ``clip_grad_norm_`` in the inner loop."""
    criterion = settings.loss_function()
    found, losses = [], []
    for x, y, query_x, query_y in tasks(data):
        module = settings.module(params)
        optimizer = torch.optim.SGD(module.parameters(), lr=settings.inner_lr)
        for _ in range(settings.inner_steps):
            optimizer.zero_grad()
            torch.autograd.backward(criterion(module(x), y))
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
        value = criterion(module(query_x), query_y)
        found.append(torch.autograd.grad(value, list(module.parameters())))
        losses.append(value.detach())
    return mean(losses), _means(params, found)


@specimen("maml", mistake="outer-clipping")
def meta_gradient_clipped(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML whose meta-gradient went through ``clip_grad_norm_`` before it was read."""
    meta = learnable(params)
    loss = mean(query_loss(settings, adapt(settings, meta, task), task) for task in tasks(data))
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(meta.values(), max_norm=0.1)
    return loss.detach(), grads_of(meta)


@specimen("maml", mistake="batch-norm-evaluation-mode")
def evaluation_mode(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML on a network in evaluation mode whose buffers never saw data: mean 0 and variance 1."""

    def fresh(layer: Mapping[str, Any], p: Arrays, x: Tensor, rows: int | None) -> Tensor:
        zeros, ones = torch.zeros_like(p["weight"]), torch.ones_like(p["weight"])
        return F.batch_norm(x, zeros, ones, p["weight"], p["bias"], training=False, eps=layer["eps"])

    meta, criterion = learnable(params), settings.loss_function()
    losses = []
    for task in tasks(data):
        fast = meta
        for _ in range(settings.inner_steps):
            outputs = forward(settings.layers, fast, task.support_x, normalise=fresh)
            fast = descend(fast, criterion(outputs, task.support_y), settings.inner_lr)
        outputs = forward(settings.layers, fast, task.query_x, normalise=fresh)
        losses.append(criterion(outputs, task.query_y))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


class RunningAverages:
    """The buffers of Torch's batch norms, with its momentum of 0.1."""

    def __init__(self) -> None:
        self.buffers: dict[int, tuple[Tensor, Tensor]] = {}
        self.training = True
        self.position = 0

    def normalise(self, layer: Mapping[str, Any], p: Arrays, x: Tensor, rows: int | None) -> Tensor:
        """A batch norm of Torch, which updates its buffers in training mode."""
        fresh = torch.zeros_like(p["weight"]).detach(), torch.ones_like(p["weight"]).detach()
        average, variance = self.buffers.setdefault(self.position, fresh)
        self.position += 1
        return F.batch_norm(
            x, average, variance, p["weight"], p["bias"], self.training, momentum=0.1, eps=layer["eps"]
        )


@specimen("maml", mistake="batch-norm-running-statistics")
def running_statistics(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that adapts in training mode, and sees the query set with the running averages of that."""
    meta, criterion = learnable(params), settings.loss_function()
    losses = []
    for task in tasks(data):
        fast, norms = meta, RunningAverages()
        for _ in range(settings.inner_steps):
            norms.position = 0
            outputs = forward(settings.layers, fast, task.support_x, normalise=norms.normalise)
            fast = descend(fast, criterion(outputs, task.support_y), settings.inner_lr)
        norms.position, norms.training = 0, False
        outputs = forward(settings.layers, fast, task.query_x, normalise=norms.normalise)
        losses.append(criterion(outputs, task.query_y))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="batch-norm-query-statistics")
def query_statistics(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML whose batch norms take the query set's own statistics instead of the support set's."""

    def own(layer: Mapping[str, Any], p: Arrays, x: Tensor, rows: int | None) -> Tensor:
        return F.batch_norm(x, None, None, p["weight"], p["bias"], training=True, eps=layer["eps"])

    meta, criterion = learnable(params), settings.loss_function()

    def loss_of(p: Arrays, x: Tensor, y: Tensor) -> Tensor:
        value: Tensor = criterion(forward(settings.layers, p, x, normalise=own), y)
        return value

    losses = []
    for task in tasks(data):
        fast = meta
        for _ in range(settings.inner_steps):
            fast = descend(fast, loss_of(fast, task.support_x, task.support_y), settings.inner_lr)
        losses.append(loss_of(fast, task.query_x, task.query_y))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake="batch-norm-statistics-detached")
def constant_support_statistics(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that normalises by the support set without a gradient through its mean and variance."""

    def detached(layer: Mapping[str, Any], p: Arrays, x: Tensor, rows: int | None) -> Tensor:
        if layer["statistics"] != "support":
            return batch_norm(layer, p, x, rows)
        axes = tuple(axis for axis in range(x.ndim) if axis != 1)
        variance, average = torch.var_mean(x[:rows].detach(), axes, correction=0)
        return F.batch_norm(x, average, variance, p["weight"], p["bias"], eps=layer["eps"])

    meta, criterion = learnable(params), settings.loss_function()
    losses = []
    for task in tasks(data):
        fast = adapt(settings, meta, task)
        outputs = query_outputs(settings, fast, task, normalise=detached)
        losses.append(criterion(outputs, task.query_y))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)
