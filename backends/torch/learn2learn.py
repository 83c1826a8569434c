"""Modules that adapt by a loss, as learn2learn's `MAML` and `MetaSGD` do (Arnold et al. 2020).

They serve `mltk.compat.learn2learn`. Cloning and updating are mltk's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import nn

from mltk.errors import SettingError
from mltk.modules.functions import clone_module, update_module

from .second_derivatives import explained


class Adapting(nn.Module):
    """A module in a wrapper that can clone it, and move a clone by the gradient of a loss.

    Calls, and attributes that the wrapper does not have, are the module's.
    """

    module: nn.Module
    first_order: bool

    def __init__(self, model: nn.Module, first_order: bool) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise SettingError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
        self.module = model
        self.first_order = first_order

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "module" not in self._modules:  # while it is being made or copied
                raise
            return getattr(self._modules["module"], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module gives."""
        return self.module(*args, **kwargs)

    def _gradients(
        self, loss: torch.Tensor, *, first_order: bool | None, allow_unused: bool, allow_nograd: bool
    ) -> list[torch.Tensor | None]:
        """The gradient at each parameter, ``None`` where it is frozen or has no part in the loss.

        Raises:
            SettingError: If a parameter is frozen or has no part in the loss, and that is not allowed.
            UnsupportedError: If Torch lacks a derivative.
        """
        parameters = list(self.module.parameters())
        inputs = [p for p in parameters if p.requires_grad]
        if len(inputs) < len(parameters) and not allow_nograd:
            frozen = [name for name, p in self.module.named_parameters() if not p.requires_grad]
            raise SettingError(
                f"{', '.join(frozen)} need no gradient; unfreeze them, or set allow_nograd=True"
            )
        second_order = not _or(first_order, self.first_order)
        with explained(f"adapting {type(self.module).__name__}"):
            found = torch.autograd.grad(
                loss, inputs, retain_graph=second_order, create_graph=second_order, allow_unused=True
            )
        grads = dict(zip(map(id, inputs), found, strict=True))
        unused = [name for name, p in self.module.named_parameters() if grads.get(id(p), p) is None]
        if unused and not allow_unused:
            raise SettingError(
                f"{', '.join(unused)} have no part in the loss; set allow_unused=True if so meant"
            )
        return [grads.get(id(p)) for p in parameters]


class MAML(Adapting):
    """Model-agnostic meta-learning of any module (Finn, Abbeel & Levine 2017), a task at a time.

        maml = MAML(model, lr=0.1)
        for x, y, query_x, query_y in tasks:
            learner = maml.clone()
            for _ in range(5):
                learner.adapt(loss(learner(x), y))
            loss(learner(query_x), query_y).backward()  # reaches the parameters of model

    Args:
        model: The module; it is kept as ``module``.
        lr: Step size of `adapt`.
        first_order: Do not differentiate through the gradients.
        allow_unused: Leave parameters that have no part in a loss as they are; ``None`` for ``allow_nograd``.
        allow_nograd: Leave parameters that need no gradient as they are.

    Raises:
        SettingError: If ``model`` is no module.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        first_order: bool = False,
        allow_unused: bool | None = None,
        allow_nograd: bool = False,
    ) -> None:
        super().__init__(model, first_order)
        self.lr = lr
        self.allow_nograd = allow_nograd
        self.allow_unused = _or(allow_unused, allow_nograd)

    def clone(
        self,
        first_order: bool | None = None,
        allow_unused: bool | None = None,
        allow_nograd: bool | None = None,
    ) -> Self:
        """A wrapper of a clone of the module (`mltk.clone_module`); settings as here unless given."""
        return type(self)(
            clone_module(self.module),
            lr=self.lr,
            first_order=_or(first_order, self.first_order),
            allow_unused=_or(allow_unused, self.allow_unused),
            allow_nograd=_or(allow_nograd, self.allow_nograd),
        )

    def adapt(
        self,
        loss: torch.Tensor,
        first_order: bool | None = None,
        allow_unused: bool | None = None,
        allow_nograd: bool | None = None,
    ) -> None:
        """Take a step along the gradient of a loss of the module, in place; settings as here unless given.

        Raises:
            SettingError: If a parameter is frozen or has no part in the loss, and that is not allowed.
            UnsupportedError: If Torch lacks a derivative.
        """
        allow_nograd = _or(allow_nograd, self.allow_nograd)
        allow_unused = _or(allow_unused, self.allow_unused or allow_nograd)
        grads = self._gradients(
            loss, first_order=first_order, allow_unused=allow_unused, allow_nograd=allow_nograd
        )
        update_module(self.module, [None if g is None else -self.lr * g for g in grads])


class MetaSGD(Adapting):
    """Meta-SGD of any module (Li, Zhou, Chen & Li 2017): a learned step size for every element.

    Args:
        model: The module; it is kept as ``module``.
        lr: Where all step sizes start.
        first_order: Do not differentiate through the gradients.
        lrs: The step sizes, one tensor a parameter; ``None`` for new ones. They are kept as ``lrs``.

    Raises:
        SettingError: If ``model`` is no module, or there are not as many step sizes as parameters.
    """

    lrs: Sequence[torch.Tensor]

    def __init__(
        self,
        model: nn.Module,
        lr: float = 1.0,
        first_order: bool = False,
        lrs: Sequence[torch.Tensor] | None = None,
    ) -> None:
        super().__init__(model, first_order)
        parameters = list(model.parameters())
        new = [nn.Parameter(torch.full_like(p, lr)) for p in parameters] if lrs is None else []
        self.lrs = nn.ParameterList(new) if lrs is None else lrs  # type: ignore[assignment]  # it is one
        if len(self.lrs) != len(parameters):
            raise SettingError(
                f"lrs has {len(self.lrs)} entries; expected one for each of {len(parameters)} parameters"
            )

    def clone(self) -> Self:
        """A wrapper of a clone of the module, with differentiable clones of the step sizes."""
        lrs = [lr.clone() for lr in self.lrs]
        return type(self)(clone_module(self.module), first_order=self.first_order, lrs=lrs)

    def adapt(self, loss: torch.Tensor, first_order: bool | None = None) -> None:
        """Take a step by the learned sizes along the gradient of a loss of the module, in place.

        Raises:
            SettingError: If a parameter is frozen or has no part in the loss.
            UnsupportedError: If Torch lacks a derivative.
        """
        grads = self._gradients(loss, first_order=first_order, allow_unused=False, allow_nograd=False)
        pairs = zip(self.lrs, grads, strict=True)
        update_module(self.module, [None if g is None else -lr * g for lr, g in pairs])


def _or(given: bool | None, otherwise: bool) -> bool:
    return otherwise if given is None else given
