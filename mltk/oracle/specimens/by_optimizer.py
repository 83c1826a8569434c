# ruff: noqa: D102 - the first class says what each method is for, and a specimen what is wrong in it
"""First-order MAML by an optimiser on modules of Torch, and what goes wrong in it."""

from __future__ import annotations

import copy
from typing import Any

import torch

from mltk.oracle.specimens.declared import classes, specimen
from mltk.oracle.specimens.learner import Learner
from mltk.oracle.specimens.network import Arrays, Result, Task, grads_of


@specimen("fomaml")
@specimen("maml", mistake="first-order")
class FirstOrderByCopy(Learner):
    """An optimiser moves a deep copy of the module, whose gradients are copied back."""

    weight_decay = 0.0

    def __init__(self, params: Arrays, data: Any, settings: Any) -> None:
        super().__init__(params, data, settings)
        self.module: torch.nn.Module = settings.module(params)

    def answer(self) -> Result:
        return self.task_by_task(self.by_optimizer)

    def by_optimizer(self, task: Task) -> Result:
        """Loss and gradient of a task."""
        fast = self.moving()
        rate, decay = self.settings.inner_lr, self.weight_decay
        optimizer = torch.optim.SGD(fast.parameters(), rate, weight_decay=decay)
        for _ in range(self.steps):
            self.clear_before_step(optimizer)
            torch.autograd.backward(self.loss(fast(task.support_x), task.support_y))
            self.move(optimizer)
        self.clear_before_query(optimizer)
        value = self.loss(fast(task.query_x), task.query_y)
        torch.autograd.backward(value)
        return value, grads_of(dict(fast.named_parameters()))

    def moving(self) -> torch.nn.Module:
        """The module that the inner loop moves."""
        return copy.deepcopy(self.module)

    def clear_before_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the gradients to zero."""
        optimizer.zero_grad()

    def move(self, optimizer: torch.optim.Optimizer) -> None:
        """Take a step."""
        optimizer.step()

    def clear_before_query(self, optimizer: torch.optim.Optimizer) -> None:
        """Set the gradients to zero."""
        optimizer.zero_grad()


@specimen("maml", mistake="first-order")
class FirstOrderByData(Learner):
    """``.data`` of the parameters is updated in place, and the old numbers are put back."""

    def answer(self) -> Result:
        self.module = self.settings.module(self.params)
        return self.task_by_task(self.by_data)

    def by_data(self, task: Task) -> Result:
        """Loss and gradient of a task."""
        self.module.load_state_dict(self.params)
        leaves = list(self.module.parameters())
        for _ in range(self.steps):
            slopes = torch.autograd.grad(self.loss(self.module(task.support_x), task.support_y), leaves)
            for p, g in zip(leaves, slopes, strict=True):
                p.data -= self.settings.inner_lr * g
        value = self.loss(self.module(task.query_x), task.query_y)
        return value, dict(zip(self.params, torch.autograd.grad(value, leaves), strict=True))


@specimen("fomaml", mistake="state-leaks-between-tasks")
class ModuleNeverRestored(FirstOrderByCopy):
    """The optimiser moves the module itself, which never gets its old weights back."""

    def moving(self) -> torch.nn.Module:
        return self.module


@specimen("fomaml", mistake="outer-gradient-accumulates")
class NoZeroGradBeforeTheQuery(FirstOrderByCopy):
    """The query gradient is added to the last support gradient."""

    def clear_before_query(self, optimizer: torch.optim.Optimizer) -> None:
        pass


@specimen("fomaml", mistake="inner-gradients-accumulate")
class NoZeroGradInTheLoop(FirstOrderByCopy):
    """The optimiser steps along the sum of all inner gradients so far."""

    def clear_before_step(self, optimizer: torch.optim.Optimizer) -> None:
        pass


@specimen("fomaml", mistake="weight-decay-in-inner-loop")
class WeightDecayInSgd(FirstOrderByCopy):
    """The optimiser was made with the weight decay of the outer one."""

    weight_decay = 5e-4


@specimen("fomaml", mistake="gradient-clipping")
class ClippingInSgd(FirstOrderByCopy):
    """The inner loop calls ``clip_grad_norm_``."""

    def move(self, optimizer: torch.optim.Optimizer) -> None:
        torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 1.0)
        optimizer.step()


@specimen("fomaml", mistake="softmax-twice", only=classes)
class SoftmaxInTheModule(FirstOrderByCopy):
    """The module ends in a softmax, and the cross-entropy has one."""

    def moving(self) -> torch.nn.Module:
        return torch.nn.Sequential(*super().moving(), torch.nn.Softmax(dim=1))  # type: ignore[misc]
