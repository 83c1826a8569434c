"""Mistakes that no catalogue has: they must be found, and no known name may be given to them."""

from __future__ import annotations

from typing import Any

import torch

from mltk.oracle.specimens.declared import UNKNOWN, specimen
from mltk.oracle.specimens.network import (
    Arrays,
    Result,
    adapt,
    gradients,
    grads_of,
    learnable,
    mean,
    query_loss,
    tasks,
)


def _maml(params: Arrays, data: Any, settings: Any) -> tuple[torch.Tensor, Arrays]:
    meta = learnable(params)
    loss = mean(query_loss(settings, adapt(settings, meta, task), task) for task in tasks(data))
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake=UNKNOWN)
def sign_of_a_bias(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML with a hand-written gradient whose last bias has the wrong sign."""
    loss, found = _maml(params, data, settings)
    last = [name for name in found if name.endswith("bias")][-1]
    return loss, {**found, last: -found[last]}


@specimen("maml", mistake=UNKNOWN)
def frozen_layer(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML whose first layer was frozen once and gets no gradient."""
    loss, found = _maml(params, data, settings)
    return loss, {name: torch.zeros_like(g) if name.startswith("0.") else g for name, g in found.items()}


@specimen("maml", mistake=UNKNOWN)
def transposed_weight(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML whose first weight gradient was read in the other order of memory."""
    loss, found = _maml(params, data, settings)
    g = found["0.weight"]
    return loss, {**found, "0.weight": g.transpose(0, 1).reshape(g.shape)}


@specimen("maml", mistake=UNKNOWN)
def noise_in_a_task(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML with the noise of an augmentation on the first task's queries."""
    meta = learnable(params)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for number, task in enumerate(tasks(data)):
        noise = torch.randn(task.query_x.shape, generator=generator, dtype=torch.float64)
        if number == 0:
            task = task._replace(query_x=task.query_x + 0.05 * noise.to(task.query_x.dtype))
        losses.append(query_loss(settings, adapt(settings, meta, task), task))
    loss = mean(losses)
    return loss.detach(), gradients(loss, meta)


@specimen("maml", mistake=UNKNOWN)
def growing_loss_backwards(params: Arrays, data: Any, settings: Any) -> Result:
    """MAML that calls ``backward`` on the growing sum of the losses: the first task counts most."""
    meta = learnable(params)
    total = torch.zeros((), dtype=data.query_x.dtype)
    for task in tasks(data):
        total = total + query_loss(settings, adapt(settings, meta, task), task) / len(data.support_x)
        torch.autograd.backward(total, retain_graph=True)
    return total.detach(), grads_of(meta)
